"""Deleting shows: everything of theirs, and nothing of others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from benchmarks.history.made_shows import make_show
from db.channel_lock import channel_lock
from db.writing.rows import SegmentRow
from db.writing.writes import record_gap, replace_segment
from flows.cli import app
from flows.errors import UsageError
from flows.recordings.alert_clips import path_of

START = datetime(2026, 11, 20, 22, tzinfo=UTC)
TABLES = ("broadcasts", "segments", "gaps", "face_tracks", "observations", "emotion_minutes")


@pytest.fixture
def home(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOWMOOD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHOWMOOD_DATABASE_URL", database_url)
    return tmp_path / "home"


@pytest.fixture
def fill(open_show, home: Path):
    """A show of 90 s with faces, a gap, a recorded file and a clip."""

    def make(slug: str, day: int, *, status: str = "completed", title: str = "A show"):
        start = START + timedelta(days=day)
        show = open_show(slug, start, status, title=title)
        segment = SegmentRow(
            channel_id=show.channel_id,
            broadcast_id=show.broadcast,
            sequence=0,
            started_at=start,
            duration_s=90,
        )
        replace_segment(show.engine, segment, make_show((day,), start=start, seconds=90))
        with show.engine.begin() as connection:
            connection.execute(
                text("UPDATE broadcasts SET ended_at = :at WHERE id = :id AND status <> 'live'"),
                {"at": start + timedelta(seconds=100), "id": show.broadcast},
            )
            record_gap(
                connection,
                channel_id=show.channel_id,
                broadcast_id=show.broadcast,
                started_at=start + timedelta(seconds=90),
                ended_at=start + timedelta(seconds=100),
                why="stalled",
            )
        (show.folder / "0001-20261120T220000Z-000000.ts").write_bytes(b"G")
        clip = path_of(home / "clips", slug, start + timedelta(seconds=30, microseconds=5))
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"clip")
        return show

    return make


def dump(engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            table: sorted(map(repr, connection.execute(text(f"SELECT * FROM {table}"))))
            for table in (*TABLES, "channels")
        }


def files(home: Path) -> set[str]:
    return {
        str(path.relative_to(home)) for path in home.rglob("*") if path.suffix in (".ts", ".mp4")
    }


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["forget", *arguments])


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, UsageError), done.output
    return str(done.exception)


def test_a_show_is_deleted_with_all_its_data_and_no_others(engine, fill, home):
    fill("talk", 0)
    fill("news", 0)
    before, there = dump(engine), files(home)
    title = """The "other" [/one's]"""
    show = fill("talk", 1, title=title)
    assert all(len(dump(engine)[name]) > len(before[name]) for name in TABLES)
    assert "nothing was deleted: say --yes" in refused("talk", "--show", "2026-11-21")
    assert "has no show 'nothing'; the newest are" in refused("talk", "--show", "nothing", "--yes")
    asked = run("talk", "--show", title, "--yes")
    assert asked.exit_code == 0, asked.output
    assert f"{show.broadcast} (2026-11-21 22:00 UTC, {title})" in asked.output
    assert (dump(engine), files(home)) == (before, there)
    assert not show.folder.exists()


@pytest.mark.parametrize("said", ["last", "2026-11-21T22:01:00Z", "number"])
def test_a_show_can_be_named_in_several_ways(engine, fill, said):
    kept = fill("talk", 0)
    show = fill("talk", 1)
    done = run("talk", "--show", str(show.broadcast) if said == "number" else said, "--yes")
    assert done.exit_code == 0, done.output
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT id FROM broadcasts"))) == [kept.broadcast]


def test_a_whole_channel_is_deleted(engine, fill, home):
    fill("news", 0)
    before, there = dump(engine), files(home)
    fill("talk", 0)
    fill("talk", 1, status="live")  # its watcher died: the channel is not locked
    assert run("talk", "--yes").exit_code == 0
    assert (dump(engine), files(home)) == (before, there)


def test_a_show_on_air_is_not_deleted(engine, fill, home):
    old = fill("talk", 0)
    fill("talk", 1, status="live")
    before, there = dump(engine), files(home)
    with channel_lock(engine, "talk", "run 7"):
        for which in ((), ("--show", "last")):
            assert "talk is on air, watched by run 7" in refused("talk", *which, "--yes")
            assert (dump(engine), files(home)) == (before, there)
        assert run("talk", "--show", str(old.broadcast), "--yes").exit_code == 0
    assert not old.folder.exists()
    assert len(dump(engine)["broadcasts"]) == 1
