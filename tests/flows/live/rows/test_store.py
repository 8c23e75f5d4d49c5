"""A show's writes are spooled while its database is unavailable, and all written afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, text

from benchmarks.history.made_shows import make_show
from db.channel_lock import channel_lock
from db.errors import DatabaseRefused
from db.session import make_engine
from db.writing import replacing
from db.writing.spool import Spool
from db.writing.writes import ensure_channel, open_broadcast
from emotion.types import Observations
from flows.capture.recorded.journal import JOURNAL, to_line
from flows.capture.segment import Gap, Segment
from flows.live.rows import store as stores
from flows.live.rows.left_behind import write_left_behind
from flows.live.rows.store import Store
from flows.maintain import maintain_here
from flows.recordings.finding import WAITING
from flows.settings import Settings

START = datetime(2026, 11, 1, 19, tzinfo=UTC)


def segment_of(number: int) -> Segment:
    return Segment(
        channel="news",
        broadcast=1,
        sequence=number,
        start=START + timedelta(seconds=2 * number),
        start_is_estimated=False,
        duration_s=2.0,
        path=Path(f"{number}.ts"),
        width_px=640,
        height_px=360,
    )


def observations_of(segment: Segment) -> Observations:
    rows = make_show((segment.sequence, 5), start=segment.start, seconds=2.0, seats=40)
    probs, smoothed = (np_fill(values) for values in (rows.probs, rows.smoothed))
    return Observations(
        ts=rows.ts,
        track=rows.track,
        boxes=rows.boxes,
        scores=rows.scores,
        probs=probs,
        smoothed=smoothed,
    )


def np_fill(values):
    return values / values[:, :7].sum(axis=1, keepdims=True)


@pytest.fixture
def store(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(stores, "RETRY_S", 0.0)
    with engine.begin() as connection:
        channel = ensure_channel(connection, "news", "http://news")
        broadcast = open_broadcast(connection, channel_id=channel, started_at=START)
    return Store(
        engine=engine,
        channel_id=channel,
        broadcast_id=broadcast,
        model="net",
        spool=Spool(tmp_path / "waiting"),
    )


def take(store: Store, number: int):
    segment = segment_of(number)
    return store.analysed(
        segment,
        observations_of(segment),
        frames=10,
        fps=5.0,
        tracker_state={"n": number},
        closed_at=datetime.now(UTC),
    )


def contents(engine):
    with engine.connect() as connection:
        return {
            table: [
                tuple(row)
                for row in connection.execute(text(f"SELECT {what} FROM {table} ORDER BY 1, 2"))
            ]
            for table, what in {
                "segments": "started_at, status, tracker_state, error",
                "observations": "ts, track_id, smoothed_neutral, neutral",
                "emotion_minutes": "minute, n, neutral",
                "face_tracks": "id, first_ts, last_ts",
                "gaps": "started_at, ended_at, why",
            }.items()
        }


def away(databases, engine) -> None:
    databases.run(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on")
    engine.dispose()


def back(databases, engine) -> None:
    databases.run(f"ALTER DATABASE {engine.url.database} RESET default_transaction_read_only")
    engine.dispose()


def all_of_it(store: Store) -> list[bool]:
    written = [take(store, number) is not None for number in range(2)]
    store.failed(segment_of(2), "truncated")
    store.gap(Gap(start=START, end=START + timedelta(seconds=1), why="stalled"))
    written += [take(store, number) is not None for number in range(3, 6)]
    return written


def test_a_show_continues_while_its_database_is_unavailable(databases, engine, store):
    assert all_of_it(store) == [True] * 5
    before = contents(engine)
    with engine.begin() as connection:
        for table in before:
            connection.execute(text(f"DELETE FROM {table}"))
    away(databases, engine)
    assert all_of_it(store) == [False] * 5
    assert len(store.spool.waiting()) == 7
    assert contents(engine)["observations"] == []
    back(databases, engine)
    assert take(store, 5) is not None  # waiting writes first
    assert store.spool.waiting() == []
    assert contents(engine) == before


def test_rows_stored_by_another_machine_during_an_outage_are_not_stored_twice(
    databases, engine, store
):
    """Until the disconnected one learns that it has lost the channel."""
    here, there = replace(store, machine="a"), replace(store, machine="b", spool=None)
    away(databases, engine)
    take(here, 0)
    back(databases, engine)
    take(there, 1)
    with engine.begin() as connection:  # without a date of the source's
        connection.execute(text("UPDATE segments SET started_at = started_at - interval '0.3 s'"))
    take(here, 1)
    with engine.connect() as connection:
        sql = "SELECT machine, extract(epoch FROM ended_at - started_at)::float FROM segments"
        assert connection.execute(text(f"{sql} ORDER BY started_at")).all() == [
            ("a", pytest.approx(1.7)),
            ("b", pytest.approx(2.3)),
        ]


def test_a_new_process_writes_the_spooled_writes_of_the_last_one(
    databases, engine, database_url, store
):
    away(databases, engine)
    all_of_it(store)
    back(databases, engine)
    other = make_engine(database_url)
    again = replace(store, engine=other, spool=Spool(store.spool.directory))
    assert again.catch_up()
    other.dispose()
    assert len(contents(engine)["segments"]) == 6
    assert again.spool.waiting() == []


def test_an_unavailable_database_is_not_tried_at_every_segment(
    databases, engine, store, monkeypatch
):
    monkeypatch.setattr(stores, "RETRY_S", 1e6)
    away(databases, engine)
    take(store, 0)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *_: asked.append(1))
    take(store, 1)
    store.gap(Gap(start=START, end=START, why="stalled"))
    assert asked == []
    assert len(store.spool.waiting()) == 3


def test_maintenance_applies_spooled_writes_unless_the_channel_is_watched(
    databases, engine, database_url, store, tmp_path
):
    settings = Settings(home=tmp_path / "home")
    folder = settings.recordings_dir / "news" / "20261101T190000Z-1" / WAITING
    left = replace(store, spool=Spool(folder))
    away(databases, engine)
    all_of_it(left)
    back(databases, engine)
    with channel_lock(engine, "news", "a watcher"):
        maintain_here(settings, database_url, now=START)
    assert len(left.spool.waiting()) == 7
    maintain_here(settings, database_url, now=START)
    assert left.spool.waiting() == []
    assert len(contents(engine)["segments"]) == 6


def test_writes_for_another_database_are_not_touched(databases, engine, store, tmp_path, caplog):
    """A recreated database numbers its broadcasts from 1 again."""
    foreign = Spool(tmp_path / "news" / f"20261031T190000Z-{store.broadcast_id}" / WAITING)
    unknown = Spool(tmp_path / "news" / "20261101T190000Z-99" / WAITING)
    away(databases, engine)
    all_of_it(replace(store, spool=foreign))
    all_of_it(replace(store, spool=unknown, broadcast_id=99))
    back(databases, engine)
    assert write_left_behind(engine, tmp_path / "news") == 0
    assert (len(foreign.waiting()), len(unknown.waiting())) == (7, 7)
    assert contents(engine)["segments"] == []
    assert caplog.text.count("is not in this database") == 2


def test_a_failing_write_without_a_spool_is_an_error(databases, engine, store):
    away(databases, engine)
    with pytest.raises(DatabaseRefused, match="refused to write"):
        take(replace(store, spool=None), 0)


def journal(directory: Path, *items: Segment | Gap) -> None:
    (directory / JOURNAL).write_text("".join(f"{to_line(item)}\n" for item in items))


def test_writes_refused_by_database_and_disk_are_stored_later(
    databases, engine, store, tmp_path, caplog
):
    store.spool.directory.write_text("in the way, as a full disk is")
    gap = Gap(start=START + timedelta(seconds=4), end=START + timedelta(seconds=6), why="stalled")
    segments = [replace(segment_of(n), path=tmp_path / f"{n}.ts") for n in range(3)]
    for segment in segments[:2]:
        segment.path.touch()
    journal(tmp_path, segments[0], segments[1], gap, segments[2])
    away(databases, engine)
    take(store, 0)
    store.gap(gap)
    assert store.owes
    assert "can't be queued on disk" in caplog.text
    assert store.leave(store.left(tmp_path)) == 2
    assert store.owes
    back(databases, engine)
    assert store.leave(store.left(tmp_path)) == 2
    assert not store.owes
    assert store.left(tmp_path) == []
    statuses = [(row[0], row[1], row[3]) for row in contents(engine)["segments"]]
    assert statuses == [
        (segments[0].start, "recorded", None),
        (segments[1].start, "recorded", None),
        (segments[2].start, "failed", "its file is gone"),
    ]
    assert contents(engine)["gaps"] == [(gap.start, gap.end, "stalled")]


def test_stored_and_spooled_segments_are_not_left_behind(databases, engine, store, tmp_path):
    gap = Gap(start=START, end=START + timedelta(seconds=1), why="stalled")
    journal(tmp_path, gap, *(segment_of(n) for n in range(6)))
    all_of_it(store)
    assert store.left(tmp_path) == []
    store.settled.clear()
    away(databases, engine)
    all_of_it(store)
    assert store.left(tmp_path) == []
    assert len(store.spool.waiting()) == 7
