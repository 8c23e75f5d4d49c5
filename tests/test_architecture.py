"""The rooms keep to themselves: who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

import db.models
import emotion.records
import emotion.types
from emotion.weights import MODELS, DetectorModel
from flows.settings import OWN
from flows.shows import DetectorName, EmotionModelName

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN = {
    "emotion": ("flows", "db", "migrations", "training", "prefect", "sqlalchemy", "pydantic"),
    "db": ("flows", "emotion", "training", "prefect", "pydantic_settings"),
    "migrations": ("flows", "emotion", "training", "prefect"),
    "flows/capture": ("flows.", "db", "emotion", "training", "prefect", "sqlalchemy"),
    "flows": ("training",),
}
"""What a room must not import; "flows." of flows/capture: the rest of flows."""

MAY = {("flows/capture/media.py", "emotion.limits")}
"""What is imported all the same: it reads files, needs no network, and is one for both rooms."""

ONLY_HERE = {("flows/store.py", "db"), ("flows/store.py", "emotion")}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: import by the full name"
            found.add(node.module or "")
    return found


def begins(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_imports_only_what_it_may(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for module in imports(file):
            if (str(file.relative_to(ROOT)), module) in MAY:
                continue
            for name in FORBIDDEN[room]:
                if name == "flows.":
                    wrong = begins(module, "flows") and not begins(module, "flows.capture")
                else:
                    wrong = begins(module, name)
                assert not wrong, f"{file.relative_to(ROOT)} imports {module}"


def test_emotions_are_the_same_everywhere() -> None:
    assert db.models.EMOTIONS == emotion.types.EMOTIONS
    columns = db.models.observations.columns.keys()
    assert [c for c in columns if c in emotion.types.EMOTIONS] == list(emotion.types.EMOTIONS)
    assert tuple(db.models.AFFECT) == emotion.records.AFFECT == tuple(columns)[-2:]


def test_form_offers_the_networks_there_are() -> None:
    detectors = {name for name, model in MODELS.items() if isinstance(model, DetectorModel)}
    assert set(DetectorName.__args__) == detectors
    assert set(EmotionModelName.__args__) == (set(MODELS) - detectors) | {OWN}


def test_nothing_names_where_it_was_made() -> None:
    marks = ("/root/", "/home/")
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT).parts
        if parts[0] in (".venv", "build") or file == Path(__file__):
            continue
        assert not any(mark in file.read_text(encoding="utf-8") for mark in marks), file
