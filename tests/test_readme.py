"""The documents are complete: settings, dependencies, links, and the length of the README."""

import re
import tomllib
from pathlib import Path

import pytest

from flows.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
DOCUMENTS = sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))


def test_every_setting_is_documented() -> None:
    table = (DOCS / "configuration.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `SHOWMOOD_(\w+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(name.upper() for name in Settings.model_fields)


def test_every_dependency_is_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements += extra
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in requirements}
    table = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    listed = {
        name.strip("` ")
        for line in table.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split(",")
    }
    assert listed == names


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCUMENTS])
def test_every_link_target_exists(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert ((ROOT / file).parent / target).exists(), target


@pytest.mark.parametrize("file", DOCUMENTS)
def test_every_document_names_its_readers(file: str) -> None:
    title, empty, first, *_ = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert empty == ""
    assert first.startswith("For ")
    assert f"({file})" in README, "not linked in the README"


@pytest.mark.parametrize("file", DOCUMENTS)
def test_every_named_source_file_exists(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:flows|emotion|db|tests|training|benchmarks)/[\w/]+\.py)", text):
        assert (ROOT / name).exists(), name


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 180
