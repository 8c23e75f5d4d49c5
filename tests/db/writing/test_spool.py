"""The spool: failed writes wait on disk, in order, without loss."""

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from db.errors import DatabaseRefused, DatabaseUnreachable
from db.writing import replacing
from db.writing.spool import Spool
from db.writing.writes import fail_segment, record_gap, record_segment, replace_segment


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "waiting")


def gap_of(show, t0):
    return {
        "channel_id": show.channel_id,
        "broadcast_id": show.broadcast_id,
        "started_at": t0 + timedelta(seconds=10),
        "ended_at": t0 + timedelta(seconds=12.5),
        "why": "stalled",
    }


def test_what_waited_is_as_what_was_written_at_once(engine, show, observe, tables, spool, t0):
    segments = [
        show.segment(index, tracker_state={"a": [0.1, index]}, lag_ms=index) for index in range(3)
    ]
    for segment in segments:
        replace_segment(engine, segment, observe(segment, (1, segment.sequence + 2)))
    with engine.begin() as connection:
        fail_segment(connection, show.segment(3), "truncated")
        record_segment(connection, show.segment(4))
        record_gap(connection, **gap_of(show, t0))
    before = tables()
    with engine.begin() as connection:
        for table in ("observations", "emotion_minutes", "face_tracks", "segments", "gaps"):
            connection.execute(text(f"DELETE FROM {table}"))
    for segment in segments:
        spool.put_segment(segment, observe(segment, (1, segment.sequence + 2)))
    spool.put_failure(show.segment(3), "truncated")
    spool.put_recorded(show.segment(4))
    spool.put_gap(**gap_of(show, t0))
    assert len(spool.waiting()) == 6
    assert spool.write(engine) == 6
    assert tables() == before
    assert spool.waiting() == []
    assert spool.write(engine) == 0


def test_the_last_word_on_a_segment_is_the_last(engine, show, observe, tables, spool):
    for tracks in ((1, 2, 3), (2,), (4, 5)):
        spool.put_segment(show.segment(0), observe(show.segment(0), tracks))
    spool.write(engine)
    assert {row[2] for row in tables()["face_tracks"]} == {4, 5}


def test_what_another_machine_has_stored_meanwhile_stays(engine, show, observe, tables, spool):
    """This one was cut off from the database alone: both have seen the same."""
    own = [show.segment(index, machine="a") for index in range(3)]
    others = show.segment(1, machine="b")
    replace_segment(engine, own[0], observe(own[0], (1,)))
    replace_segment(engine, others, observe(others, (10_001,)))
    for segment in own:
        spool.put_segment(segment, observe(segment, (2,)))
    assert spool.write(engine) == 3
    with engine.connect() as connection:
        sql = "SELECT machine FROM segments ORDER BY started_at"
        assert connection.scalars(text(sql)).all() == ["a", "b", "a"]
    assert {row[2] for row in tables()["face_tracks"]} == {2, 10_001}


def test_an_unavailable_database_loses_nothing(
    databases, engine, show, observe, tables, spool, monkeypatch
):
    """Read-only for a while, after the first write."""
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    for index in range(3):
        spool.put_segment(show.segment(index), observe(show.segment(index)))
    name = engine.url.database
    databases.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    engine.dispose()
    for _ in range(2):
        with pytest.raises(DatabaseRefused):
            spool.write(engine)
        assert len(spool.waiting()) == 3
    databases.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    engine.dispose()
    spool.put_segment(show.segment(3), observe(show.segment(3)))
    assert spool.write(engine) == 4
    assert len(tables()["observations"]) == 4 * 30


def test_small_writes_wait_too(databases, engine, show, spool, t0):
    spool.put_gap(**gap_of(show, t0))
    databases.drop(engine.url.database)
    with pytest.raises(DatabaseUnreachable):
        spool.write(engine)
    assert len(spool.waiting()) == 1


WRITER = """
import sys
from pathlib import Path
from db.session import make_engine
from db.writing import spool
write = spool._write
def once(engine, path):
    write(engine, path)
    if path.stem.endswith("1"):
        print("written", flush=True)
        sys.stdin.read()
spool._write = once
spool.Spool(Path(sys.argv[2])).write(make_engine(sys.argv[1]))
"""


def test_a_writer_that_is_killed_is_gone_on_with(
    engine, database_url, show, observe, tables, spool, tmp_path
):
    """After the commit of the second of three, before its file is deleted."""
    for index in range(3):
        spool.put_segment(show.segment(index), observe(show.segment(index)))
    (tmp_path / "waiting" / "0000000007.part").write_bytes(b"half a file")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, database_url, str(tmp_path / "waiting")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[3],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert len(tables()["segments"]) == 2
    assert [path.stem for path in spool.waiting()] == ["0000000001", "0000000002"]
    assert spool.write(engine) == 2
    assert len(tables()["observations"]) == 3 * 30


def damage(whole: bytes) -> dict[str, bytes]:
    """Damaged files: truncated at every tenth, a flipped byte in every tenth, foreign content."""
    tenths = [len(whole) * n // 10 for n in range(10)]
    cut = {f"cut at {n}": whole[:n] for n in tenths}
    turned = {
        f"turned at {n}": whole[:n] + bytes([whole[n] ^ 0x55]) + whole[n + 1 :] for n in tenths
    }
    others = {"zeros": bytes(len(whole)), "pickle": b"\x80\x04N.", "text": b"{}"}
    return cut | turned | others


def test_a_damaged_file_is_set_aside_and_the_rest_is_written(
    engine, show, observe, tables, spool, caplog
):
    spool.put_segment(show.segment(0), observe(show.segment(0)))
    [first] = spool.waiting()
    bad = damage(first.read_bytes())
    for _ in bad:
        spool.put_segment(show.segment(1), observe(show.segment(1)))
    spool.put_segment(show.segment(2), observe(show.segment(2)))
    for path, data in zip(spool.waiting()[1:], bad.values(), strict=False):
        path.write_bytes(data)
    written = spool.write(engine)
    aside = {path.read_bytes() for path in spool.directory.glob("*.damaged")}
    # Flipping a meaningless byte changes nothing.
    assert written == 2 + len(bad) - len(aside)
    assert len(aside) >= len(bad) - 4
    assert aside <= set(bad.values())
    assert spool.waiting() == []
    assert {row[1] for row in tables()["segments"]} >= {show.segment(n).started_at for n in (0, 2)}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(aside)
    assert all("quarantined as 00000000" in line and "\n" not in line for line in lines)


def test_what_the_database_will_never_take_is_set_aside(engine, show, spool, t0, tables):
    spool.put_gap(**(gap_of(show, t0) | {"broadcast_id": 999_999}))
    spool.put_gap(**gap_of(show, t0))
    assert spool.write(engine) == 1
    assert [path.name for path in spool.directory.iterdir()] == ["0000000000.damaged"]
    assert len(tables()["gaps"]) == 1
    spool.put_gap(**gap_of(show, t0))
    assert [path.name for path in spool.waiting()] == ["0000000001.npz"]


WRONG = {
    "a channel that is none": {"channel_id": 999_999},
    "a broadcast of no channel": {"broadcast_id": 999_999},
    "a number that is a list": {"sequence": [1]},
    "a path that is an object": {"path": {"a": 1}},
    "a NUL in a text": {"model": "a\0b"},
    "a number that no column holds": {"sequence": 2**70},
    "a length that no time has": {"duration_s": 1e300},
    "a length that is a text": {"duration_s": "two"},
    "a date that is none": {"started_at": "yesterday"},
    "another field": {"more": 1},
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG)
def test_a_write_that_no_database_takes_does_not_hold_up_the_next(
    engine, show, spool, tables, said, observe
):
    good, bad = show.segment(1), show.segment(0)
    spool.put_segment(bad, observe(bad))
    [path] = spool.waiting()
    with np.load(path) as found:
        arrays = dict(found)
    header = json.loads(arrays["said"].tobytes()) | said
    arrays["said"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)
    spool.put_segment(good, observe(good))
    assert spool.write(engine) == 1
    assert [path.name for path in spool.set_aside()] == ["0000000000.damaged"]
    assert [row[1] for row in tables()["segments"]] == [good.started_at]


@pytest.mark.parametrize("whole", ["[]", "null", '"a"', "{}", '{"kind": []}', '{"kind": "gap"}'])
def test_a_header_of_any_kind_is_set_aside(engine, spool, whole):
    spool.directory.mkdir()
    said = np.frombuffer(whole.encode(), dtype=np.uint8)
    np.savez(spool.directory / "0000000000.npz", said=said)
    np.save(spool.directory / "0000000001.npy", said)
    (spool.directory / "0000000001.npy").rename(spool.directory / "0000000001.npz")
    assert spool.write(engine) == 0
    assert len(spool.set_aside()) == 2


def test_what_the_disk_does_not_let_go_is_written_once(engine, show, spool, t0, monkeypatch):
    """A folder named like a file can neither be read nor be deleted as a file."""
    spool.put_gap(**gap_of(show, t0))
    (spool.directory / "0000000001.npz").mkdir()
    spool.put_gap(**gap_of(show, t0))
    monkeypatch.setattr(Path, "unlink", refuse)
    assert spool.write(engine) == 2
    assert [path.name for path in spool.waiting()] == ["0000000001.npz"]
    assert spool.write(engine) == 0
    monkeypatch.undo()
    assert Spool(spool.directory).write(engine) == 2


def test_write_takes_no_number_in_a_folder_that_cannot_be_listed(show, spool, t0, monkeypatch):
    spool.put_gap(**gap_of(show, t0))
    before = spool.waiting()[0].read_bytes()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(OSError, match="Read-only"):
        spool.put_recorded(show.segment(0))
    monkeypatch.undo()
    assert [path.read_bytes() for path in spool.waiting()] == [before]


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_disk_that_is_full_keeps_no_half_of_a_write(show, spool, t0):
    spool.directory.mkdir()
    (spool.directory / "0000000000.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        spool.put_gap(**gap_of(show, t0))
    assert list(spool.directory.iterdir()) == []
    spool.put_gap(**gap_of(show, t0))
    assert len(spool.waiting()) == 1
