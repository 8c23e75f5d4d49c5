"""Maintenance by the settings, and its output table."""

import os
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from db.errors import DatabaseNotMigrated
from db.maintain import Maintained, Retention
from flows.cli import app
from flows.maintain import maintain, maintain_here, retention_of, table_of
from flows.settings import Settings

NOW = datetime(2026, 11, 22, 4, 30, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def test_zero_days_mean_for_ever(monkeypatch):
    monkeypatch.setenv("SHOWMOOD_KEEP_OBSERVATIONS_DAYS", "30")
    monkeypatch.setenv("SHOWMOOD_KEEP_GAPS_DAYS", "0")
    assert retention_of(Settings()) == Retention(
        observations_days=30, tracks_days=800, segments_days=800
    )


def test_summary_of_maintenance():
    done = [
        Maintained(
            table="observations", before=NOW, made=("observations_2026_12",), postponed=("a", "b")
        ),
        Maintained(table="gaps", before=None),
        Maintained(table="segments", before=NOW, deleted=7),
    ]
    assert [list(row.values()) for row in table_of(done)] == [
        ["observations", "2026-11-22", 0, "none", "observations_2026_12", "a, b"],
        ["gaps", "for ever", 0, "none", "none", "none"],
        ["segments", "2026-11-22", 7, "none", "none", "none"],
    ]


def test_tables_must_be_there(empty_database_url):
    with pytest.raises(DatabaseNotMigrated, match="run `showmood db upgrade`"):
        maintain_here(Settings(), empty_database_url, now=NOW)


def test_the_command_prints_the_table(database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path))
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["db", "maintain"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines() if line.strip()]
    assert [line[0] for line in lines[-7:]] == [
        "observations",
        "seconds",
        "emotion_minutes",
        "face_tracks",
        "shots",
        "segments",
        "gaps",
    ]


def test_maintenance_is_deployed_and_scheduled():
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (nightly,) = [each for each in deployed if each["name"] == "nightly"]
    module, _, name = nightly["entrypoint"].rpartition(".")
    assert getattr(import_module(module), name) is maintain
    assert nightly["schedules"][0]["active"] is True


def test_recordings_are_deleted_down_to_their_limits(open_show, database_url, recordings_dir):
    show = open_show(started_at=NOW - timedelta(days=9))
    old = show.folder / "0001-20261113T190000Z-000000.ts"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    settings = Settings(home=recordings_dir.parent, keep_recordings_days=8, min_free_disk_mb=0)
    maintain_here(settings, database_url, now=NOW)
    assert not show.folder.exists()
