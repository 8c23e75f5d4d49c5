"""Storing a segment: twice is as once, whoever else writes, whatever breaks."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event, text

from db import replacing
from db.errors import DatabaseBusy, DatabaseRefused, DatabaseUnreachable, UnknownChannel
from db.models import EMOTIONS
from db.rows import ObservationRows
from db.session import make_engine
from db.writes import replace_segment

Tables = Callable[[], dict[str, list[tuple[Any, ...]]]]


def fresh_minutes(engine: Engine, channel: int) -> list[tuple[Any, ...]]:
    """Aggregate all minutes of a channel from raw rows."""
    span = {
        "channel": channel,
        "first_minute": datetime(2000, 1, 1, tzinfo=UTC),
        "end_minute": datetime(2100, 1, 1, tzinfo=UTC),
    }
    with engine.connect() as connection:
        rows = connection.execute(text(replacing.FRESH_MINUTES + " ORDER BY 1, 2, 3"), span)
        return [tuple(row) for row in rows]


def raw_ends(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT track_id, min(ts), max(ts) FROM observations GROUP BY 1 ORDER BY 1")
        )
        return [tuple(row) for row in rows]


def assert_sound(engine: Engine, tables: Tables, channel: int) -> None:
    """Hold the invariants: minutes and tracks follow from the raw rows, and nothing else."""
    now = tables()
    assert now["emotion_minutes"] == fresh_minutes(engine, channel)
    assert [(row[0], row[3], row[4]) for row in now["face_tracks"]] == raw_ends(engine)


def test_what_is_stored_is_what_was_given(engine, show, observe, tables):
    segment, rows = show.segment(0, tracker_state={"a": [0.1, 1e-17]}), None
    rows = observe(segment)
    counts = replace_segment(engine, segment, rows)
    assert (counts.observations, counts.tracks, counts.replaced) == (30, 3, 0)
    stored = tables()["observations"]
    got = np.array([[np.nan if cell is None else cell for cell in row[3:-2]] for row in stored])
    want = np.concatenate([rows.boxes, rows.scores[:, None], rows.probs, rows.smoothed], axis=1)
    np.testing.assert_array_equal(got.astype(np.float32), want)
    assert [row[0] for row in stored] == [ts.replace(tzinfo=UTC) for ts in rows.ts.tolist()]
    assert [row[1] % 100_000_000 for row in stored] == rows.track.tolist()
    (row,) = tables()["segments"]
    assert {"a": [0.1, 1e-17]} in row
    assert "analysed" in row


def test_missing_classes_are_null_also_when_rows_differ(engine, show, observe):
    segment = show.segment(0)
    rows = observe(segment, lacking=())
    probs = rows.probs.copy()
    probs[3, 0] = probs[7, :] = np.nan
    replace_segment(engine, segment, replace(rows, probs=probs))
    with engine.connect() as connection:
        nulls = connection.execute(
            text(
                f"SELECT {', '.join(f'count(*) - count({e})' for e in EMOTIONS)} FROM observations"
            )
        ).one()
    assert tuple(nulls) == (2, 1, 1, 1, 1, 1, 1, 1)


def test_twice_is_as_once(engine, show, observe, tables):
    for index in range(4):
        replace_segment(engine, show.segment(index), observe(show.segment(index)))
    before = tables()
    counts = replace_segment(engine, show.segment(1), observe(show.segment(1)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (30, 30, 0)
    assert tables() == before


def test_reanalysis_of_all_in_any_order_leaves_identical_tables(engine, show, observe, tables):
    segments = [show.segment(index) for index in range(8)]
    seen = [(1, 2), (2,), (2, 3), (3,), (), (4,), (4, 5), (5,)]
    for segment, tracks in zip(segments, seen, strict=True):
        replace_segment(engine, segment, observe(segment, tracks))
    before = tables()
    for index in (5, 0, 7, 3, 3, 1, 6, 2, 4):
        replace_segment(engine, segments[index], observe(segments[index], seen[index]))
    assert tables() == before
    assert_sound(engine, tables, show.channel_id)


def test_fewer_faces_leave_no_stale_row_and_no_stale_track(engine, show, observe, tables):
    for index in range(3):
        replace_segment(engine, show.segment(index), observe(show.segment(index), (1, 2)))
    replace_segment(engine, show.segment(3), observe(show.segment(3), (2, 9)))
    counts = replace_segment(engine, show.segment(3), observe(show.segment(3), (2,)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 10, 1)
    counts = replace_segment(engine, show.segment(0), observe(show.segment(0), ()))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 0, 0)
    assert_sound(engine, tables, show.channel_id)
    assert [row[2] for row in tables()["face_tracks"]] == [1, 2]


def test_the_range_is_half_open(engine, show, observe, tables):
    first, second = show.segment(0), show.segment(1)
    replace_segment(engine, second, observe(second, (1,)))
    late = observe(replace(first, duration_s=2.4), (1,))  # reaches 2.0 s and 2.2 s
    counts = replace_segment(engine, first, late)
    assert (counts.observations, counts.outside, counts.replaced) == (10, 2, 0)
    assert len(tables()["observations"]) == 20


def test_a_duration_rounded_up_leaves_the_next_segment_its_rows(engine, show, observe, tables):
    first, second = show.segment(0, duration_s=2.000001), show.segment(1)
    for segment in (first, second):
        replace_segment(engine, segment, observe(segment, (1,)))
    before = tables()
    replace_segment(engine, first, observe(first, (1,)))
    assert tables() == before
    assert len(before["observations"]) == 20


def test_doubles_are_stored_once(engine, show, observe, tables):
    segment = show.segment(0)
    rows = observe(segment, (1,))
    doubled = rows.take(np.array([4, *range(10), 4, 9]))
    doubled = replace(doubled, scores=np.where(np.arange(13) == 11, 1.0, 0.5).astype(np.float32))
    counts = replace_segment(engine, segment, doubled)
    assert (counts.observations, counts.duplicates) == (10, 3)
    assert [row[7] for row in tables()["observations"]] == [0.5] * 4 + [1.0] + [0.5] * 5


def test_another_broadcast_takes_the_range_over(engine, show, new_show, observe, tables):
    for index in range(3):
        replace_segment(engine, show.segment(index), observe(show.segment(index), (1, index + 2)))
    other = new_show(started_at=show.segment(1).started_at)
    segment = replace(show.segment(1), broadcast_id=other.broadcast_id)
    counts = replace_segment(engine, segment, observe(segment, (1,)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 10, 1)
    assert_sound(engine, tables, show.channel_id)


def test_another_channel_at_the_same_time_is_left_alone(engine, show, new_show, observe, tables):
    replace_segment(engine, show.segment(0), observe(show.segment(0)))
    other = new_show("other")
    assert replace_segment(engine, other.segment(0), observe(other.segment(0))).replaced == 0
    assert len(tables()["observations"]) == 60


def test_a_random_history_keeps_minutes_and_tracks_true(engine, show, observe, tables):
    """Segments of random length, analysed again in random order with random tracks."""
    random = np.random.default_rng(5)
    starts = np.cumsum(random.integers(700_000, 9_000_000, 25))
    segments = [
        show.segment(
            index,
            started_at=show.segment(0).started_at + timedelta(microseconds=int(starts[index])),
            duration_s=int(starts[index + 1] - starts[index]) / 1e6,
        )
        for index in range(24)
    ]
    for step, index in enumerate([*range(24), *random.integers(0, 24, 40).tolist()]):
        tracks = tuple(random.choice(np.arange(1, 9), random.integers(0, 4), replace=False))
        lacking = (7,) if step % 3 else (0, 7)
        rows = observe(segments[index], tracks, seed=step, lacking=lacking)
        replace_segment(engine, segments[index], rows)
        if step % 10 == 9:
            assert_sound(engine, tables, show.channel_id)
    assert_sound(engine, tables, show.channel_id)
    by_hand: dict[tuple[Any, int], list[list[float]]] = {}
    for row in tables()["observations"]:
        values = [np.nan if cell is None else cell for cell in row[16:-2]]
        minute = row[0].replace(second=0, microsecond=0)
        by_hand.setdefault((minute, row[1] // 100_000_000), []).append(values)
    minutes = {(row[1], row[2]): row for row in tables()["emotion_minutes"]}
    assert minutes.keys() == by_hand.keys()
    for key, values in by_hand.items():
        known = ~np.isnan(np.array(values))
        sums = np.nansum(np.array(values), axis=0)
        with np.errstate(invalid="ignore"):
            means = sums / known.sum(axis=0)
        got = [np.nan if cell is None else cell for cell in minutes[key][5:]]
        np.testing.assert_allclose(got, means, rtol=1e-6)
        assert minutes[key][3] == len(values)


def test_times_do_not_depend_on_the_session(database_url, engine, show, observe, tables):
    """A zone with summer time and half an hour, a segment across the change and a new month."""
    there = make_engine(database_url)

    @event.listens_for(there, "connect")
    def _elsewhere(connection, record):
        with connection.cursor() as cursor:
            cursor.execute("SET timezone = 'Australia/Lord_Howe'")
        connection.commit()

    start = datetime(2026, 10, 3, 15, 29, 58, tzinfo=UTC)
    for index, moment in enumerate((start, datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC))):
        segment = show.segment(index, started_at=moment)
        replace_segment(there, segment, observe(segment))
        replace_segment(engine, segment, observe(segment))
    there.dispose()
    assert_sound(engine, tables, show.channel_id)
    assert [row[1].second for row in tables()["emotion_minutes"]] == [0, 0, 0]
    with engine.connect() as connection:
        months = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1")
        ).all()
    assert months == ["observations_2026_10", "observations_2026_11"]


def in_parallel(*jobs: Callable[[], Any]) -> list[BaseException]:
    """Run the jobs at once and return what they raised."""
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
    databases, engine, show, new_show, observe, tables, isolation
):
    """Neighbours that share a minute and their tracks, and a second channel, all at once."""
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
        assert minutes == fresh_minutes(engine, channel)
    assert [(row[0], row[3], row[4]) for row in now["face_tracks"]] == raw_ends(engine)


def test_the_same_segment_by_two_writers_at_once(engine, show, observe, tables):
    segment = show.segment(0)
    rows = observe(segment)
    replace_segment(engine, segment, rows)
    before = tables()
    jobs = [lambda: replace_segment(engine, segment, rows)] * 4
    assert in_parallel(*jobs) == []
    assert tables() == before


class Injected(Exception):
    """What the tests below throw into a transaction."""


def statements_of(engine: Engine, job: Callable[[], Any]) -> int:
    """Count the statements of a job, the COPY included."""
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
    """Three segments are there; the job analyses the middle one again, quite differently."""
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
    assert step == (1 if when == "commit" else 9)
    assert tables() != before


def test_a_connection_lost_at_any_statement_is_tried_again(databases, engine, tables, stored):
    """The server ends the session before each statement in turn, and before COPY and COMMIT."""
    stored()
    after = tables()
    total = statements_of(engine, stored)
    assert total == 9
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
    encode, lost = replacing.encode, []

    def kill(channel_id: int, broadcast_id: int, rows: ObservationRows) -> bytes:
        if not lost:
            lost.append(1)
            databases.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction'"
            )
        return encode(channel_id, broadcast_id, rows)

    monkeypatch.setattr(replacing, "encode", kill)
    assert replace_segment(engine, segment, observe(segment)).observations == 30
    assert lost
    assert tables() == before


def refuse(engine: Engine, condition: str, times: int) -> None:
    """Let the server refuse the next segments with this condition, so many times."""
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
def test_a_conflict_is_tried_again(engine, show, observe, tables, monkeypatch, condition):
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    refuse(engine, condition, 3)
    assert replace_segment(engine, show.segment(0), observe(show.segment(0))).observations == 30
    assert_sound(engine, tables, show.channel_id)


def test_a_conflict_that_stays_is_said_after_four_attempts(
    engine, show, observe, tables, monkeypatch
):
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    refuse(engine, "deadlock_detected", 99)
    with pytest.raises(DatabaseBusy, match="another transaction is in the way"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT last_value FROM tries")) == 4
    assert tables()["observations"] == []


def test_a_lock_held_too_long_is_said_in_one_line(engine, show, observe, monkeypatch):
    monkeypatch.setattr(replacing, "LOCK_TIMEOUT", "50ms")
    with engine.begin() as other:
        other.execute(text("SELECT FROM channels FOR UPDATE"))
        with pytest.raises(DatabaseBusy, match="another transaction is in the way") as raised:
            replace_segment(engine, show.segment(0), observe(show.segment(0)))
    assert "\n" not in str(raised.value)


def test_a_read_only_database_is_said_in_one_line(databases, engine, show, observe):
    databases.run(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on")
    engine.dispose()
    with pytest.raises(DatabaseRefused, match=r"refused to write: cannot execute .* read-only"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))


def test_a_database_that_is_gone_is_said_in_one_line(databases, engine, show, observe, monkeypatch):
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    databases.drop(engine.url.database)
    with pytest.raises(DatabaseUnreachable, match=r"can't reach the database .*does not exist"):
        replace_segment(engine, show.segment(0), observe(show.segment(0)))


def test_an_unknown_channel_is_refused(engine, show, observe, tables):
    with pytest.raises(UnknownChannel):
        replace_segment(engine, replace(show.segment(0), channel_id=99), observe(show.segment(0)))
    with pytest.raises(ValueError, match="not of this channel"):
        replace_segment(engine, replace(show.segment(0), broadcast_id=99), observe(show.segment(0)))
    assert tables()["segments"] == []


def test_minutes_whose_raw_rows_are_gone_are_not_computed_again(engine, show, observe, tables):
    """Four minutes; the first and all but the last half of the second lose their raw rows."""
    for index in range(120):
        segment = show.segment(index)
        replace_segment(engine, segment, observe(segment, (1,)))
    whole = tables()["emotion_minutes"]
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM observations WHERE ts < :until"),
            {"until": show.segment(45).started_at},
        )
    for index in (0, 29, 30, 45, 59):  # the first minute, both, the second, its rest, its end
        segment = show.segment(index)
        replace_segment(engine, segment, observe(segment, (1, 2), seed=9))
        assert tables()["emotion_minutes"] == whole
    segment = show.segment(60)
    replace_segment(engine, segment, observe(segment, (1, 2), seed=9))
    now = tables()["emotion_minutes"]
    assert [new == old for new, old in zip(now, whole, strict=True)] == [True, True, False, True]
    assert now[2][3] == whole[2][3] + 10


STORER = """
import sys
from datetime import datetime
from benchmarks.made_shows import make_show, pieces
from db.rows import SegmentRow
from db.session import make_engine
from db.writes import replace_segment

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
    engine, database_url, show, tables, t0
):
    def start(order: str) -> subprocess.Popen[bytes]:
        arguments = (database_url, str(show.channel_id), str(show.broadcast_id), order)
        made = subprocess.Popen(
            [sys.executable, "-c", STORER, *arguments, t0.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
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
    assert_sound(engine, tables, show.channel_id)
    with engine.begin() as connection:
        for table in ("observations", "emotion_minutes", "face_tracks", "segments"):
            connection.execute(text(f"DELETE FROM {table}"))
    run("forwards")
    assert tables() == both
