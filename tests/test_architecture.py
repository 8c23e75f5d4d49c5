"""Imports between rooms are those of the table in docs/architecture.md."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import db.tables.observations
import db.tables.shows
import emotion.types
import emotion.weights.records
from emotion.weights.store import MODELS, DetectorModel
from flows.settings import OWN
from flows.show import DetectorName, EmotionModelName

ROOT = Path(__file__).resolve().parent.parent
TABLE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Rooms")[1]

NOT_IN = {
    "emotion/": ("prefect", "sqlalchemy", "pydantic", "psycopg2"),
    "db/": ("prefect", "pydantic_settings", "torch"),
    "migrations/": ("prefect",),
    "flows/capture/": ("prefect", "sqlalchemy", "torch"),
    "flows/recordings/": ("prefect", "torch"),
    "flows/live/": ("prefect", "torch"),
    "flows/report/": ("prefect", "torch"),
    "flows/page/": ("prefect", "torch"),
    "flows/commands/": ("torch",),
}
"""Packages that a room and its subrooms must not import."""

BOTH_EMOTION_AND_DB = {"flows/live/rows/store.py"}
"""Rooms that may import both `db` and `emotion`."""


def cells() -> list[tuple[list[str], list[str]]]:
    """Return each room, by the names in its first cell, and its allowed imports."""
    found = []
    for line in TABLE.splitlines():
        parts = [part.strip() for part in line.strip().strip("|").split("|")]
        if len(parts) == 3 and parts[0].startswith("`"):
            found.append((re.findall(r"`([^`]+)`", parts[0]), re.findall(r"`([^`]+)`", parts[2])))
    return found


ROOMS = {names[0]: (names, may) for names, may in cells()}


def files() -> list[Path]:
    tops = {names[0].split("/")[0] for names, _ in cells()}
    return [file for top in sorted(tops) for file in (ROOT / top).rglob("*.py")]


def room_of(file: Path) -> str:
    """Return the first name of a file's room, listed by file or by folder."""
    path = file.relative_to(ROOT).as_posix()
    for first, (names, _) in ROOMS.items():
        if path in names:
            return first
    folder = f"{path.rpartition('/')[0]}/"
    if folder.startswith("migrations/"):
        folder = "migrations/"
    assert folder in ROOMS, f"{path} is in no room of docs/architecture.md"
    return folder


def imports(file: Path) -> set[str]:
    """Return the full names of a file's imports, including submodules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: import by the full name"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                found.add(module if source_of(module) else str(node.module))
    return found


def source_of(module: str) -> Path | None:
    """Return the file of one of our modules."""
    path = ROOT / module.replace(".", "/")
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_its_row_names(room: str) -> None:
    names, may = ROOMS[room]
    mine = [file for file in files() if room_of(file) == room]
    assert mine, f"{names}: no such room"
    used = set()
    for file in mine:
        for module in imports(file):
            source = source_of(module)
            if source is None or source not in FILES or (other := room_of(source)) == room:
                continue
            assert other in may, f"{file.relative_to(ROOT)} imports {module}: {room} may not"
            used.add(other)
    assert set(may) == used, f"{room} does not import {set(may) - used}"


FILES = set(files())


def test_no_circle_among_rooms() -> None:
    assert list(TopologicalSorter({room: may for room, (_, may) in ROOMS.items()}).static_order())


@pytest.mark.parametrize("room", NOT_IN)
def test_room_does_without_what_is_heavy_or_not_its_business(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        tops = {module.split(".")[0] for module in imports(file)}
        assert not tops & set(NOT_IN[room]), file


def test_emotions_are_the_same_everywhere() -> None:
    assert db.tables.shows.EMOTIONS == emotion.types.EMOTIONS
    columns = db.tables.observations.observations.columns.keys()
    assert [c for c in columns if c in emotion.types.EMOTIONS] == list(emotion.types.EMOTIONS)
    assert tuple(db.tables.shows.AFFECT) == emotion.weights.records.AFFECT == tuple(columns)[-4:-2]


def test_form_offers_the_networks_there_are() -> None:
    detectors = {name for name, model in MODELS.items() if isinstance(model, DetectorModel)}
    assert set(DetectorName.__args__) == detectors
    assert set(EmotionModelName.__args__) == (set(MODELS) - detectors) | {OWN}


def test_source_files_stay_small() -> None:
    """At most 300 lines per file."""
    served = {
        each for kind in ("js", "css", "html") for each in ROOT.glob(f"flows/page/*/*.{kind}")
    }
    for file in FILES | served:
        if not {"versions", "vendor"} & set(file.parts):
            assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, file


def test_nothing_names_where_it_was_made() -> None:
    marks = ("/root/", "/home/")
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT).parts
        if parts[0] in (".venv", "build") or file == Path(__file__):
            continue
        assert not any(mark in file.read_text(encoding="utf-8") for mark in marks), file
