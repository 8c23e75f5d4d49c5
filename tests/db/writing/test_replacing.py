"""Storing a segment with concurrent writers and with errors."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from db.errors import DatabaseBusy, DatabaseRefused, DatabaseUnreachable
from db.writing import replacement, replacing
from db.writing.rows import ObservationRows
from db.writing.writes import replace_segment


def in_parallel(*jobs: Callable[[], Any]) -> list[BaseException]:
    """Run the jobs in parallel and return their exceptions."""
    barrier = threading.Barrier(len(jobs))
    raised: list[BaseException] = []

    def run(job: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            raised.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_two_writers_at_once_in_a_new_month(
    databases, engine, show, new_show, observe, tables, isolation, fresh_minutes, raw_ends
):
    """Neighbours that share a minute and tracks, and a second channel, in parallel."""
    databases.run(
        f"ALTER DATABASE {engine.url.database} SET default_transaction_isolation = '{isolation}'"
    )
    engine.dispose()
    other = new_show("other")
    jobs = []
    for writer in range(4):
        mine = other if writer == 3 else show

        def store(mine=mine, writer=writer) -> None:
            for index in range(writer % 3, 30, 3):
                replace_segment(engine, mine.segment(index), observe(mine.segment(index)))

        jobs.append(store)
    assert in_parallel(*jobs) == []
    now = tables()
    assert len(now["observations"]) == 40 * 30
    for channel in (show.channel_id, other.channel_id):
        minutes = [row for row in now["emotion_minutes"] if row[0] == channel]
        assert minutes == fresh_minutes(channel)
    assert [(row[0], row[3], row[4]) for row in now["face_tracks"]] == raw_ends()


def test_the_same_segment_by_two_writers_at_once(engine, show, observe, tables):
    segment = show.segment(0)
    rows = observe(segment)
    replace_segment(engine, segment, rows)
    before = tables()
    jobs = [lambda: replace_segment(engine, segment, rows)] * 4
    assert in_parallel(*jobs) == []
    assert tables() == before


class Injected(Exception):
    """Injected into a transaction by the tests below."""


def statements_of(engine: Engine, job: Callable[[], Any]) -> int:
    """Count the statements of a job, including COPY."""
    count = 0

    def see(*_: Any) -> None:
        nonlocal count
        count += 1

    event.listen(engine, "before_cursor_execute", see)
    event.listen(engine, "commit", see)
    try:
        job()
    finally:
        event.remove(engine, "before_cursor_execute", see)
        event.remove(engine, "commit", see)
    return count


@pytest.fixture
def stored(engine, show, observe) -> Callable[[], Any]:
    """Three stored segments; the job replaces the middle one with other observations."""
    for index in range(3):
        replace_segment(engine, show.segment(index), observe(show.segment(index), (1, index + 2)))
    segment = show.segment(1, model="other")
    return lambda: replace_segment(engine, segment, observe(segment, (2, 9), seed=7))


@pytest.mark.parametrize("when", ["before_cursor_execute", "after_cursor_execute", "commit"])
def test_a_crash_at_any_statement_leaves_all_as_before(engine, tables, stored, when):
    before = tables()
    step = 0
    while True:
        seen = -1

        def crash(*_: Any, step: int = step) -> None:
            nonlocal seen
            seen += 1
            if seen == step:
                raise Injected

        event.listen(engine, when, crash)
        try:
            stored()
        except Injected:
            assert tables() == before
        else:
            break
        finally:
            event.remove(engine, when, crash)
        step += 1
    assert step == (1 if when == "commit" else 12)
    assert tables() != before


def test_a_connection_lost_at_any_statement_is_tried_again(databases, engine, tables, stored):
    """The server ends the session before each statement in turn, and before COPY and COMMIT."""
    stored()
    after = tables()
    total = statements_of(engine, stored)
    assert total == 12
    for step in range(total):
        seen = -1

        def kill(*arguments: Any, step: int = step) -> None:
            nonlocal seen
            seen += 1
            if seen == step:
                driver = arguments[0].connection.dbapi_connection
                databases.run(f"SELECT pg_terminate_backend({driver.get_backend_pid()}, 5000)")

        for when in ("before_cursor_execute", "commit"):
            event.listen(engine, when, kill)
        try:
            assert stored().observations == 20
        finally:
            for when in ("before_cursor_execute", "commit"):
                event.remove(engine, when, kill)
        assert seen > step
        assert tables() == after


def test_a_connection_lost_in_copy_is_tried_again(
    databases, engine, show, observe, tables, monkeypatch
):
    segment = show.segment(0)
    replace_segment(engine, segment, observe(segment))
    before = tables()
    encode, lost = replacement.encode, []

    def kill(channel_id: int, broadcast_id: int, rows: ObservationRows) -> bytes:
        if not lost:
            lost.append(1)
            databases.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction'"
            )
        return encode(channel_id, broadcast_id, rows)

    monkeypatch.setattr(replacement, "encode", kill)
    assert replace_segment(engine, segment, observe(segment)).observations == 30
    assert lost
    assert tables() == before


def refuse(engine: Engine, condition: str, times: int) -> None:
    """Make the server refuse the next segments with this condition, this many times."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE SEQUENCE tries;"
                " CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
                f" IF nextval('tries') <= {times} THEN RAISE {condition}; END IF;"
                " RETURN NEW; END$$;"
                " CREATE TRIGGER refuse BEFORE INSERT ON segments"
                " FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )


@pytest.mark.parametrize("condition", ["serialization_failure", "deadlock_detected"])
def test_a_conflict_is_tried_again(
    engine, show, observe, tables, monkeypatch, condition, assert_sound
):
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    refuse(engine, condition, 3)
    assert replace_segment(engine, show.segment(0), observe(show.segment(0))).observations == 30
    assert_sound(show.channel_id)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited between its attempts, without the wait."""
    waited: list[float] = []
    monkeypatch.setattr(replacing, "time", SimpleNamespace(sleep=waited.append))
    return waited


def test_a_lasting_conflict_is_an_error_after_four_attempts(
    engine, show, observe, tables, pauses, caplog
):
    refuse(engine, "deadlock_detected", 99)
    with pytest.raises(DatabaseBusy, match="another transaction holds a lock"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT last_value FROM tries")) == 4
    assert tables()["observations"] == []
    assert [record.args[0] for record in caplog.records] == [1, 2, 3]
    for pause_s, longest_s in zip(pauses, (0.05, 0.2, 0.8), strict=True):
        assert longest_s / 2 <= pause_s <= longest_s


def test_what_is_no_conflict_is_not_tried_again(engine, show, observe, pauses):
    refuse(engine, "check_violation", 99)
    with pytest.raises(IntegrityError):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT last_value FROM tries")) == 1
    assert pauses == []


def test_rows_whose_partition_was_dropped_a_moment_ago_are_tried_again(
    engine, show, observe, pauses
):
    refuse(engine, "check_violation USING TABLE = 'observations'", 2)
    assert replace_segment(engine, show.segment(0), observe(show.segment(0))).observations == 30
    assert len(pauses) == 2


def test_partitions_that_are_made_elsewhere_are_said_after_four_times(
    engine, show, observe, pauses, monkeypatch
):
    made = []
    monkeypatch.setattr(replacing, "_make_partitions", lambda *_: made.append(1))
    segment = show.segment(0, started_at=datetime(2031, 5, 1, tzinfo=UTC))
    with pytest.raises(DatabaseRefused, match="set the same search_path"):
        replace_segment(engine, segment, observe(segment))
    assert len(made) == 4
    assert pauses == []


def test_a_lock_held_too_long_is_a_one_line_error(engine, show, observe, monkeypatch):
    monkeypatch.setattr(replacement, "LOCK_TIMEOUT", "50ms")
    with engine.begin() as other:
        other.execute(text("SELECT FROM channels FOR UPDATE"))
        with pytest.raises(DatabaseBusy, match="another transaction holds a lock") as raised:
            replace_segment(engine, show.segment(0), observe(show.segment(0)))
    assert "\n" not in str(raised.value)


def test_a_read_only_database_is_a_one_line_error(databases, engine, show, observe):
    databases.run(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on")
    engine.dispose()
    with pytest.raises(DatabaseRefused, match=r"refused to write: cannot execute .* read-only"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))


def test_a_missing_database_is_a_one_line_error(databases, engine, show, observe, pauses):
    databases.drop(engine.url.database)
    with pytest.raises(DatabaseUnreachable, match=r"can't reach the database .*does not exist"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))
    assert len(pauses) == 3


STORER = """
import sys
from datetime import datetime
from benchmarks.history.made_shows import make_show, pieces
from db.writing.rows import SegmentRow
from db.session import make_engine
from db.writing.writes import replace_segment

url, channel, broadcast, order = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
start = datetime.fromisoformat(sys.argv[5])
engine = make_engine(url)
cut = pieces(make_show((7,), start=start, seconds=120), start=start, seconds=120, segment_s=4.0)
print("ready", flush=True)
sys.stdin.read()
for index, (at, rows) in list(enumerate(cut))[:: -1 if order == "backwards" else 1]:
    segment = SegmentRow(
        channel_id=channel, broadcast_id=broadcast, sequence=index, started_at=at, duration_s=4.0
    )
    for _ in range(2):
        replace_segment(engine, segment, rows)
"""


def test_two_processes_at_once_from_both_ends_leave_what_one_leaves(
    engine, database_url, show, tables, t0, assert_sound
):
    def start(order: str) -> subprocess.Popen[bytes]:
        arguments = (database_url, str(show.channel_id), str(show.broadcast_id), order)
        made = subprocess.Popen(
            [sys.executable, "-c", STORER, *arguments, t0.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[3],
        )
        assert made.stdout is not None
        return made

    def run(*orders: str) -> None:
        processes = [start(order) for order in orders]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            with process:
                assert process.wait() == 0

    run("forwards", "backwards")
    both = tables()
    assert len(both["segments"]) == 30
    assert_sound(show.channel_id)
    with engine.begin() as connection:
        for table in ("observations", "emotion_minutes", "face_tracks", "segments"):
            connection.execute(text(f"DELETE FROM {table}"))
    run("forwards")
    assert tables() == both
