"""The documents are true: their commands exist and work, their figures have a source."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.history.made_shows import make_show
from db.embedded.server import psql_path
from db.writing.rows import SegmentRow
from db.writing.writes import close_broadcast, ensure_channel, open_broadcast, replace_segment
from flows.cli import app
from flows.settings import Settings
from flows.stack.init_files import UNIT, WORKER_UNIT

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
]

TESTED_ELSEWHERE = {
    "analyze": ("tests/flows/test_cli.py", '"analyze"'),
    "clip": ("tests/flows/recordings/test_clip.py", "clip("),
    "deploy": ("tests/flows/test_control_room.py", "apply_showfile"),
    "evaluate": ("tests/flows/report/test_evaluation.py", '"evaluate"'),
    "play": ("tests/flows/recordings/test_play.py", "playlist_at"),
    "env": ("tests/flows/auth/test_access.py", '"env"'),
    "replay": ("tests/flows/test_reanalyse.py", "Analysis("),
    "status": ("tests/whole/test_main_job.py", '"status"'),
}
"""Commands that need more than a database, by first word: the test that runs them, a call in it."""


def console_commands(file: str) -> Iterator[list[str]]:
    """Yield the arguments of every `showmood` command in a document's console blocks."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```(?:console|bash|sh)\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            first, *_ = shlex.split(line, comments=True) or [""]
            if first == "showmood":
                words = shlex.split(line, comments=True)[1:]
                yield words[: words.index("|")] if "|" in words else words


def inline_commands(file: str) -> Iterator[list[str]]:
    """Yield the arguments of every inline `showmood` command."""
    text = re.sub(r"```.*?```", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in re.findall(r"`showmood ([^`]+)`", text):
        yield command.replace("'", " ").split()


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the (sub)command, and its arguments."""
    found: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    return found, rest


@pytest.mark.parametrize("file", DOCUMENTS)
def test_every_showmood_command_exists(file: str) -> None:
    for words in console_commands(file):
        command, rest = find(words)
        command.make_context(words[0], rest)  # raises for unknown options
    for words in inline_commands(file):
        command, rest = find(words)
        if words[0] == "...":
            continue
        assert len(rest) < len(words) or words[0].startswith("-"), words
        if command.name == "psql":
            continue
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        for word in rest:
            if word.startswith("--"):
                assert word.split("=")[0].rstrip(",.") in {*options, "--help"}, (file, words)


def test_every_setting_and_program_of_the_fleet_s_recipe_exists() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))
    for name in re.findall(r"\b((?:SHOWMOOD|PREFECT)_\w+)=", blocks):
        ours = name.removeprefix("SHOWMOOD_").lower() in Settings.model_fields
        assert ours or hasattr(prefect.settings, name), name
    units = set(re.findall(r"[\w-]+\.service", text))
    assert units == {UNIT, WORKER_UNIT}
    for program, arguments in re.findall(r"^(?:sudo -u postgres )?(pg_\w+) (.*)$", blocks, re.M):
        told = subprocess.check_output([psql_path().with_name(program), "--help"], text=True)
        for option in re.findall(r"(--[a-z]+)", arguments):
            assert option in told, (program, option)


@pytest.mark.parametrize("file", DOCUMENTS)
def test_every_make_target_exists(file: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / file).read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, target


@pytest.mark.parametrize("file", [*DOCUMENTS, "Makefile", "CHANGELOG.md"])
def test_every_python_module_exists_and_has_the_options(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    ours = r"((?:benchmarks|training|db|flows)[\w.]*)"
    for module, arguments in re.findall(rf"python -m {ours}([^`|\n]*)", text):
        path = ROOT / module.replace(".", "/")
        folder = path.is_dir()
        source = path / "__main__.py" if folder else path.with_suffix(".py")
        assert source.exists(), module
        code = source.read_text(encoding="utf-8")
        assert folder or '__name__ == "__main__"' in code, module
        for option in re.findall(r"(?<= )--[a-z][\w-]*", arguments.partition(" -m ")[0]):
            assert f'"{option}"' in code, (module, option)


@pytest.fixture
def place(tmp_path: Path, engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's folder and a database with shows on the channel used in the documents."""
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    for day in ("2026-11-19T12:00:00", "2026-11-20T12:00:00", None):
        start = datetime.now(UTC) - timedelta(hours=20)
        start = datetime.fromisoformat(day).astimezone() if day else start
        with engine.begin() as connection:
            channel = ensure_channel(connection, "evening-news", "http://news")
            show = open_broadcast(connection, channel_id=channel, started_at=start)
        segment = SegmentRow(
            channel_id=channel, broadcast_id=show, sequence=0, started_at=start, duration_s=60
        )
        replace_segment(engine, segment, make_show((1,), start=start, seconds=60))
        with engine.begin() as connection:
            end = start + timedelta(seconds=60)
            close_broadcast(connection, show, ended_at=end, status="completed")
    return tmp_path


def test_every_console_command_runs(place: Path) -> None:
    pytest.importorskip("pyarrow")
    ran = []
    for file in DOCUMENTS:
        for words in console_commands(file):
            if (elsewhere := TESTED_ELSEWHERE.get(words[0])) is not None:
                test, word = elsewhere
                assert word in (ROOT / test).read_text(encoding="utf-8"), words
                continue
            asks = words[0] == "forget" and "--yes" not in words
            done = CliRunner().invoke(app, [*words, "--yes"] if asks else words)
            needs_server = words == ["shows"]
            assert done.exit_code == 0 or (needs_server and "no server" in str(done.exception)), (
                words,
                done.output,
                done.exception,
            )
            ran.append(words[0])
    assert {"report", "forget", "shows"} <= set(ran)
    assert "evening-news" in (place / "prefect.yaml").read_text(encoding="utf-8")
    assert (place / "mood.png").stat().st_size > 1000


FROM: dict[str, tuple[str, str]] = {
    "0.30 s": ("docs/analysis.md", r"\| `SHOWMOOD_ENGINE=hls` \|.*\| 302 / 364 \|"),
    "0.36 s": ("docs/analysis.md", r"\| `SHOWMOOD_ENGINE=hls` \|.*\| 302 / 364 \|"),
    "30 days": ("docs/configuration.md", r"\| `SHOWMOOD_KEEP_RECORDINGS_DAYS` \| `30` \|"),
    "100 GB": ("docs/configuration.md", r"\| `SHOWMOOD_KEEP_RECORDINGS_GB` \| `100` \|"),
}
"""Figures of the README that are formatted differently in their source document."""

MEASURED_BY_HAND = {"3 MB", "1.5 GB"}


def test_every_figure_of_the_readme_has_a_source() -> None:
    sources = [*ROOT.glob("docs/*.md"), *ROOT.glob("emotion/weights/*.md")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sources}
    everything = "\n".join(texts.values()).replace(",", "")
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    unit = r"(?:%|s|ms|MB|GB|px|days|hours|minutes|degrees)"
    found = re.findall(rf"(?<![\w.])(\d[\d,]*(?:\.\d+)?) ?({unit})(?!\w)", prose)
    assert len(found) > 15
    for number, of in found:
        figure = f"{number} {of}"
        if figure in FROM:
            file, pattern = FROM[figure]
            assert re.search(pattern, texts[file]), figure
        elif figure not in MEASURED_BY_HAND:
            plain = re.escape(number.replace(",", ""))
            assert re.search(rf"(?<![\d.]){plain} ?{of}(?!\w)", everything), figure
    weights = ROOT / "emotion" / "weights" / "showmood-expression-2.safetensors"
    assert round(weights.stat().st_size / 1e6) == 3


def test_every_default_in_the_table_of_settings_is_right() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `SHOWMOOD_{name.upper()}` \| ([^|]*) \|", table, re.MULTILINE)
        if row is None:  # `test_readme.py` fails
            continue
        value = row[1].strip().strip("`")
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert float(value) == field.default, name
        elif field.default is not None and field.default != () and name != "home":
            default = field.default
            assert value == (",".join(default) if isinstance(default, tuple) else str(default)), (
                name
            )
