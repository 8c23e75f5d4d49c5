"""The README keeps up: every setting and every dependency has its line."""

import re
import tomllib
from pathlib import Path

from flows.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_has_its_line() -> None:
    for name in Settings.model_fields:
        assert f"| `SHOWMOOD_{name.upper()}` |" in README, name


def test_every_dependency_earns_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in wanted}
    table = README.split("## Dependencies")[1].split("\n## ")[0]
    listed = {
        name.strip("` ")
        for line in table.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split(",")
    }
    assert listed == names


def test_every_picture_and_file_it_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith(("http://", "https://")):
            assert (ROOT / target).exists(), target
