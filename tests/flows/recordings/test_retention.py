"""Retention of recordings: what is deleted, what is kept, and behaviour after errors."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db import keeping
from db.errors import DatabaseError
from flows.capture.recorded import audio
from flows.capture.recorded.playback_playlists import write_playlist
from flows.recordings import retention as module
from flows.recordings.retention import Limits, Recordings, rolling
from flows.settings import Settings

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
KB = 1024
RUN = "0001-20261122T190000Z"


def limits(*, days: float | None = None, total_bytes: int | None = None, free_bytes: int = 0):
    return Limits(days=days, total_bytes=total_bytes, free_bytes=free_bytes)


@pytest.fixture
def keep(engine: Engine, recordings_dir: Path) -> Callable[..., Recordings]:
    def make(**values: object) -> Recordings:
        log = logging.getLogger("retention")
        return Recordings(engine=engine, directory=recordings_dir, limits=limits(**values), log=log)

    return make


@pytest.fixture
def fill(open_show) -> Callable[..., object]:
    """A broadcast with files of a kilobyte, one a minute, of which the last ends `ago` ago."""

    def make(n: int, *, ago: timedelta = timedelta(0), status: str = "analysed", **other: object):
        show = open_show(started_at=NOW - ago - timedelta(minutes=n), **other)
        with show.engine.begin() as connection:
            for i in range(n):
                at = NOW - ago - timedelta(minutes=n - i)
                path = show.folder / f"{RUN}-{i:06d}.ts"
                path.write_bytes(b"\x47" * KB)
                os.utime(path, (at.timestamp(), at.timestamp()))
                connection.execute(
                    text(
                        "INSERT INTO segments (channel_id, broadcast_id, sequence, started_at,"
                        " ended_at, duration_s, path, status) SELECT :channel, :broadcast, :i,"
                        " :at, :at + interval '60 s', 60, :path, :status WHERE :status <> 'none'"
                    ),
                    {
                        "channel": show.channel_id,
                        "broadcast": show.broadcast,
                        "i": i,
                        "at": at,
                        "path": str(path),
                        "status": status,
                    },
                )
        (show.folder / "events.jsonl").write_text("")
        return show

    return make


def files(show) -> int:
    return len(list(show.folder.glob("*.ts")))


def test_old_files_are_deleted_and_their_rows_stay(fill, keep) -> None:
    show = fill(6)
    rolled = keep(days=3.5 / 1440).run(NOW)
    assert (rolled.files, rolled.n_bytes, rolled.left_files) == (3, 3 * KB, 3)
    assert files(show) == 3
    assert [path is None for path in show.paths()] == [True] * 3 + [False] * 3
    assert not list(show.folder.glob("*.gone"))


@pytest.mark.parametrize("full", [False, True], ids=["too many", "the disk is full"])
def test_the_largest_show_loses_its_oldest_files_first(fill, keep, full, monkeypatch) -> None:
    older = fill(2, slug="older", ago=timedelta(hours=2))
    large = fill(8, slug="large")
    if full:
        monkeypatch.setattr(Recordings, "_missing_bytes", lambda self: 5 * KB)
    keep(total_bytes=None if full else 5 * KB).run(NOW)
    assert (files(older), files(large)) == (2, 3)
    assert [path is None for path in large.paths()] == [True] * 5 + [False] * 3


def test_kept_stretches_stay_until_released(fill, keep, engine) -> None:
    show = fill(6)
    with engine.begin() as connection:
        spans = connection.execute(
            text("SELECT started_at, ended_at FROM segments ORDER BY started_at")
        ).all()
        number = keeping.keep(connection, show.slug, spans[1][0], spans[1][1], "the goal")
    rolled = keep(days=1 / 86400).run(NOW)
    assert (rolled.files, rolled.kept_files, files(show)) == (5, 1, 1)
    with engine.begin() as connection:
        assert [row.note for row in keeping.kept(connection)] == ["the goal"]
        assert keeping.let_go(connection, number)
        assert not keeping.let_go(connection, number)
    assert keep(days=1 / 86400).run(NOW).files == 1


def test_audio_that_reaches_into_kept_pictures_stays_as_long_as_they_do(
    fill, keep, engine: Engine
) -> None:
    show = fill(5)
    folder = show.folder / audio.FOLDER
    folder.mkdir()
    (show.folder / "notes.txt").write_text("mine")  # else the folder goes as a whole
    for i in range(5):  # half of each is heard with the next pictures
        (folder / f"{RUN}-{i:06d}+2700000x5400000.ts").write_bytes(bytes(100))
    with engine.begin() as connection:
        began = connection.scalar(text("SELECT started_at FROM segments WHERE sequence = 3"))
        number = keeping.keep(connection, show.slug, began, began + timedelta(seconds=60), "")

    def left() -> list[str]:
        return sorted(path.name[len(RUN) + 1 :][:6] for path in folder.iterdir())

    retention = keep(total_bytes=4 * KB + 500)
    retention.run(NOW)
    assert left() == ["000000", "000001", "000002", "000003", "000004"]
    assert retention.run(NOW).left_bytes == 4 * KB + 500
    retention = keep(days=1 / 86400)
    retention.run(NOW)
    assert left() == ["000002", "000003"]
    for each in (retention, keep(days=1 / 86400)):
        assert each.run(NOW).left_bytes == KB + 200
    with engine.begin() as connection:
        keeping.let_go(connection, number)
    retention.run(NOW)
    assert left() == []


def test_a_show_keeps_files_within_its_share(fill, keep) -> None:
    older = fill(2, slug="older", ago=timedelta(hours=2))
    large = fill(8, slug="large", status="recorded")  # not deletable
    keep(total_bytes=6 * KB).run(NOW)
    assert (files(older), files(large)) == (2, 8)


@pytest.mark.parametrize(
    ("status", "spooled", "age", "left"),
    [
        ("recorded", False, timedelta(days=9), 3),
        ("none", True, timedelta(days=9), 3),
        ("none", False, timedelta(hours=1), 3),
        ("none", False, timedelta(days=9), 0),
        ("failed", False, timedelta(hours=1), 0),
    ],
    ids=["not analysed", "its row waits in the spool", "no row yet", "no row ever", "failed"],
)
def test_files_needed_by_analysis_are_kept(
    fill, keep, status: str, spooled: bool, age: timedelta, left: int
) -> None:
    show = fill(3, status=status, ago=age)
    if spooled:
        (show.folder / "waiting").mkdir()
        (show.folder / "waiting" / "0000000000.npz").write_bytes(b"")
    rolled = keep(days=0.01, total_bytes=1).run(NOW)
    assert rolled.kept_files == left
    assert (files(show) if show.folder.exists() else 0) == left
    assert show.paths() == ([None] * 3 if status == "failed" else show.paths())


@pytest.mark.parametrize(("status", "left"), [("recorded", 3), ("analysed", 0)])
def test_a_moved_folder_is_identified_by_its_files(fill, keep, status: str, left: int) -> None:
    show = fill(3, status=status, ago=timedelta(days=9))
    with show.engine.begin() as connection:
        moved = "UPDATE segments SET path = '/before' || path"
        connection.execute(text(moved))
    keep(days=0.01).run(NOW)
    assert (files(show) if show.folder.exists() else 0) == left
    assert sum(path is not None for path in show.paths()) == left


def test_a_broadcast_on_air_keeps_its_folder_and_what_its_playlist_lists(fill, keep) -> None:
    show = fill(5)
    with show.engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET status = 'live', planned_end = now()"))
    names = [f"{RUN}-{i:06d}.ts" for i in range(5)]
    entries = [f"#EXTINF:60,\n{name}\n" for name in names]
    (show.folder / f"{RUN}.m3u8").write_text("#EXTM3U\n" + "".join(entries[3:]))
    keep(days=0.0001).run(NOW)
    assert sorted(path.name for path in show.folder.glob("*.ts")) == names[3:]
    (show.folder / f"{RUN}.m3u8").unlink()
    keep(days=0.0001).run(NOW)
    assert files(show) == 0
    assert show.folder.exists()


def test_an_empty_folder_is_deleted(fill, keep) -> None:
    show, other = fill(2, slug="a"), fill(2, slug="b")
    (show.folder / f"{RUN}.json").write_text("{}")
    (other.folder / "notes.txt").write_text("mine")
    rolled = keep(days=0.0001).run(NOW + timedelta(hours=1))
    assert rolled.folders == 1
    assert not show.folder.exists()
    assert (other.folder / "notes.txt").read_text() == "mine"


def test_a_database_with_other_broadcasts_deletes_none_of_these(fill, keep) -> None:
    show = fill(3)
    with show.engine.begin() as connection:
        connection.execute(text("UPDATE segments SET path = '/elsewhere/' || sequence"))
        connection.execute(text("UPDATE broadcasts SET started_at = started_at - interval '1 day'"))
    keep(days=0.0001).run(NOW)
    assert files(show) == 3


def test_only_files_of_the_capture_are_deleted(
    fill, keep, recordings_dir: Path, tmp_path: Path
) -> None:
    show = fill(2)
    outside = tmp_path / "outside" / show.folder.name
    outside.mkdir(parents=True)
    kept = [outside / f"{RUN}-000000.ts", tmp_path / f"{RUN}-000001.ts", show.folder / "mine.ts"]
    for path in kept:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    (recordings_dir / "linked").symlink_to(tmp_path / "outside")
    (show.folder.parent / "20200101T000000Z-1").symlink_to(outside)
    (show.folder / f"{RUN}-000009.ts").symlink_to(kept[1])
    with show.engine.begin() as connection:
        connection.execute(
            text("UPDATE segments SET path = :p WHERE sequence = 0"),
            {"p": f"{show.folder}/../../../../{kept[1].name}"},
        )
    keep(days=0.0001, total_bytes=1).run(NOW + timedelta(days=3))
    assert all(path.exists() for path in kept)
    assert not (show.folder / f"{RUN}-000001.ts").exists()


@pytest.mark.parametrize("step", ["forget", "delete"])
def test_the_next_pass_finishes_an_interrupted_one(fill, keep, monkeypatch, step: str) -> None:
    show = fill(4)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        where = module.rows if step == "forget" else module.Folder
        patch.setattr(where, step, crash)
        with pytest.raises(KeyboardInterrupt):
            keep(days=2.5 / 1440).run(NOW)
    assert len(list(show.folder.glob("*.gone"))) == 2
    rolled = keep().run(NOW)
    assert rolled.files == 0
    assert [path is None for path in show.paths()] == [True] * 2 + [False] * 2
    assert files(show) == 2
    assert not list(show.folder.glob("*.gone"))


def test_two_processes_can_delete_simultaneously(
    fill, keep, engine: Engine, recordings_dir: Path
) -> None:
    show = fill(400)
    code = (
        "import sys, logging; from datetime import *; from pathlib import Path;"
        "from db.session import make_engine; from flows.recordings.retention import *;"
        "limits = Limits(days=None, total_bytes=100 * 1024, free_bytes=0);"
        "r = Recordings(engine=make_engine(sys.argv[1]), directory=Path(sys.argv[2]),"
        " limits=limits, log=logging.getLogger());"
        "[r.run(datetime.now(UTC)) for _ in range(20)]"
    )
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", code, url, str(recordings_dir)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert files(show) == 100
    assert sum(path is None for path in show.paths()) == 300


def test_a_full_disk_is_freed_and_reported(fill, keep, monkeypatch, caplog) -> None:
    show = fill(5)
    room = {"free": 10 * KB}
    usage = module.shutil.disk_usage(show.folder)

    def disk_usage(path: Path):
        freed = 5 - files(show) if show.folder.exists() else 5
        return usage._replace(free=room["free"] + freed * KB)

    monkeypatch.setattr(module.shutil, "disk_usage", disk_usage)
    caplog.set_level(logging.WARNING)
    keep(free_bytes=10 * KB).run(NOW)
    assert files(show) == 2  # a quarter above the floor
    assert "the oldest recordings are deleted to make room" in caplog.text
    room["free"] = 0
    retention = keep(free_bytes=10 * KB)
    assert retention.can_make_room()
    retention.run(NOW)
    retention.run(NOW)
    assert not show.folder.exists()
    assert caplog.text.count("none of them can be deleted") == 1
    assert not retention.can_make_room()


def test_nothing_is_deleted_without_a_database(fill, keep, databases, engine: Engine) -> None:
    show = fill(3)
    databases.run(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on")
    engine.dispose()
    with pytest.raises(DatabaseError):
        keep(days=0.0001).run(NOW)
    databases.run(f"ALTER DATABASE {engine.url.database} RESET default_transaction_read_only")
    engine.dispose()
    keep().run(NOW)
    assert show.paths() == [None] * 3


def test_a_watcher_runs_retention_in_the_background(fill, keep, until) -> None:
    show = fill(3)
    gone = threading.Event()
    retention = keep(total_bytes=1)
    retention.log.addFilter(lambda record: gone.set() or True)
    retention.log.setLevel(logging.INFO)
    with rolling(retention):
        assert gone.wait(60)
    retention.log.filters.clear()
    until(lambda: not show.folder.exists(), what="the end of its folder")


def test_an_internal_error_does_not_end_retention(
    fill, keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = fill(3)
    retention = keep(total_bytes=1)
    run, passes, gone = Recordings.run, [], threading.Event()

    def fails_once(self: Recordings, now: datetime) -> object:
        passes.append(now)
        if len(passes) == 1:
            raise RuntimeError("a bug")
        rolled = run(self, now)
        gone.set()
        return rolled

    monkeypatch.setattr(Recordings, "run", fails_once)
    monkeypatch.setattr(module, "PASS_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    with rolling(retention):
        assert gone.wait(60)
    assert not show.folder.exists()


def test_an_ending_watcher_does_not_wait_for_a_blocked_pass(fill, keep, engine: Engine) -> None:
    """Here by another's lock; the next pass finishes the work."""
    show = fill(3)
    others = set(threading.enumerate())
    asleep = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    retention = keep(total_bytes=1)
    with engine.connect() as other:
        other.execute(text("LOCK TABLE segments"))
        with rolling(retention), engine.connect() as look:
            while not look.scalar(asleep):
                look.rollback()
        new = set(threading.enumerate()) - others
        (held_up,) = (each for each in new if each.name == "retention")
    held_up.join(60)
    assert not held_up.is_alive()
    keep(total_bytes=1).run(NOW)
    assert not show.folder.exists()


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_playlists_still_play_the_remaining_files(
    air, record, keep, frames_played, kind: str
) -> None:
    show = record(air(kind), (0, 4), (8, 14))
    segments = show.segments
    asked = write_playlist(show.folder, segments, at=segments[0].start, ended=True)
    size = sum(segment.path.stat().st_size for segment in segments[5:])
    keep(total_bytes=size).run(datetime.now(UTC))
    assert [segment.path.exists() for segment in segments] == [False] * 5 + [True] * 5
    head = asked.read_text().split("#EXTINF")[0]
    assert "#EXT-X-MEDIA-SEQUENCE:5\n" in head
    # Between the two runs: the first has nothing before it.
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:1\n" in head
    old, new = sorted(show.folder.glob("*.m3u8")), asked
    assert len(old) == 1  # the first run's lists nothing any more
    assert "#EXT-X-MEDIA-SEQUENCE:1\n" in old[0].read_text()
    assert [frames_played(playlist) for playlist in (old[0], new)] == [5 * 12] * 2


def test_limits_come_from_the_settings() -> None:
    settings = Settings(keep_recordings_days=0, keep_recordings_gb=1.5, min_free_disk_mb=1)
    expected = limits(total_bytes=3 << 29, free_bytes=1 << 20)
    assert Limits.of(settings) == expected
