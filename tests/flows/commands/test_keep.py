"""Kept stretches of recordings, by command."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import keeping
from flows.cli import app

START = datetime(2026, 11, 20, 22, tzinfo=UTC)


def test_a_note_is_listed_as_it_was_written(
    open_show, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets are not interpreted as terminal markup."""
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    show = open_show("talk", START)
    with show.engine.begin() as connection:
        keeping.keep(connection, "talk", START, START.replace(minute=1), "[/2:1] [dim]")
    done = CliRunner().invoke(app, ["keep"])
    assert done.exit_code == 0, done.exception
    assert "[/2:1] [dim]" in " ".join(done.output.split())
