"""Recordings of dead watchers get rows at the next start."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db.writing.rows import SegmentRow
from db.writing.spool import Spool
from flows.capture.segment import Segment
from flows.live.rows import left_behind
from flows.live.rows.left_behind import set_aside, write_left_behind
from flows.recordings.finding import WAITING, folder_of


def rows(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


SEGMENTS = "SELECT started_at, status, path FROM segments ORDER BY 1"


@pytest.fixture
def died(engine: Engine, air, open_show, record) -> Callable[..., object]:
    """Record a show whose watcher dies before it has stored more than the first segment."""

    def make(*, ends_in: timedelta, status: str = "live") -> object:
        began = datetime.now().astimezone() - timedelta(hours=1)
        planned = datetime.now().astimezone() + ends_in
        show = open_show(started_at=began, status=status, planned_end=planned)
        record(air("ts"), (0, 3), (5, 7), show=show)  # and misses two in between
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM gaps"))
            connection.execute(text("DELETE FROM segments WHERE sequence > 0"))
        return show

    return make


def test_recordings_of_a_dead_watcher_get_rows_and_end_its_broadcast(
    engine: Engine, died, recordings_dir: Path
) -> None:
    show = died(ends_in=-timedelta(minutes=1))
    first, *others = show.segments
    n_gaps = len(show.events) - len(show.segments)
    assert n_gaps == 1
    assert write_left_behind(engine, recordings_dir / "flash") == len(others) + n_gaps
    assert rows(engine, SEGMENTS) == [
        (first.start, "analysed", str(first.path)),
        *((each.start, "recorded", str(each.path)) for each in others),
    ]
    [gap] = [event for event in show.events if not isinstance(event, Segment)]
    assert rows(engine, "SELECT started_at, ended_at, why FROM gaps") == [
        (gap.start, gap.end, gap.why)
    ]
    assert rows(engine, "SELECT status, ended_at >= started_at FROM broadcasts") == [
        ("interrupted", True)
    ]
    assert write_left_behind(engine, recordings_dir / "flash") == 0


def test_a_broadcast_that_may_be_continued_stays_open(
    engine: Engine, died, recordings_dir: Path
) -> None:
    died(ends_in=timedelta(hours=1))
    assert write_left_behind(engine, recordings_dir / "flash") > 0
    assert rows(engine, "SELECT status, ended_at FROM broadcasts") == [("live", None)]


def test_recordings_of_broadcasts_closed_elsewhere_are_found(
    engine: Engine, died, recordings_dir: Path
) -> None:
    died(ends_in=-timedelta(minutes=1), status="interrupted")
    with engine.begin() as connection:  # of a show that goes on for days
        connection.execute(
            text(
                "UPDATE broadcasts SET started_at = started_at - interval '5 days',"
                " ended_at = started_at + interval '30 minutes'"
            )
        )
    folder = next((recordings_dir / "flash").iterdir())
    with engine.connect() as connection:
        row = connection.execute(text("SELECT id, started_at FROM broadcasts")).one()
    folder.rename(folder_of(recordings_dir, "flash", row.started_at, row.id))
    assert write_left_behind(engine, recordings_dir / "flash") > 0


@pytest.mark.parametrize("status", ["interrupted", "cancelled"])
def test_a_closed_broadcast_is_extended_by_later_rows(
    engine: Engine, air, open_show, record, recordings_dir: Path, monkeypatch, status: str
) -> None:
    monkeypatch.setattr(left_behind, "LOOKED_FOR", timedelta(days=36_500))
    began = datetime.fromisoformat("2026-11-22T18:59:59+00:00")
    show = record(air("ts"), (0, 2), show=open_show(started_at=began, status=status))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM segments WHERE sequence > 0"))
        connection.execute(text("UPDATE broadcasts SET ended_at = started_at"))
    assert write_left_behind(engine, recordings_dir / "flash") == 1
    assert rows(engine, "SELECT status, ended_at FROM broadcasts") == [
        (status, show.segments[-1].end)
    ]


def test_an_interrupted_broadcast_ends_with_its_last_segment(
    engine: Engine, air, open_show, record, recordings_dir: Path
) -> None:
    began = datetime.fromisoformat("2026-11-22T18:59:59+00:00")
    show = open_show(started_at=began, status="live", planned_end=began + timedelta(minutes=1))
    record(air("ts"), (0, 2), show=show)
    write_left_behind(engine, recordings_dir / "flash")
    assert rows(engine, "SELECT status, ended_at FROM broadcasts") == [
        ("interrupted", show.segments[-1].end)
    ]


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"[]"], ids=["empty", "cut", "other"])
def test_a_damaged_write_loses_only_the_analysis_of_its_segment(
    engine: Engine, air, open_show, record, recordings_dir: Path, data: bytes, caplog
) -> None:
    show = record(air("ts"), (0, 3), show=open_show(status="completed"))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM segments WHERE sequence = 1"))
        connection.execute(text("UPDATE segments SET status = 'recorded' WHERE sequence = 2"))
    spool = Spool(show.folder / WAITING)
    for number in (1, 2):
        segment = show.segments[number]
        spool.put_failure(
            SegmentRow(
                channel_id=show.channel_id,
                broadcast_id=show.broadcast,
                sequence=number,
                started_at=segment.start,
                duration_s=segment.duration_s,
            ),
            "truncated",
        )
    spool.waiting()[0].write_bytes(data)
    unfinished = spool.directory / "0000000002.part"  # by a process that was killed
    unfinished.touch()
    write_left_behind(engine, recordings_dir / "flash")
    assert [row[1] for row in rows(engine, SEGMENTS)] == ["analysed", "recorded", "failed"]
    assert set_aside(recordings_dir) == [spool.directory / "0000000000.damaged"]
    assert "quarantined as" in caplog.text
    assert not unfinished.exists()
