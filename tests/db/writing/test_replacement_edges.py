"""What replacing a segment must leave alone at the edges of its range, and what it must renew."""

from dataclasses import replace
from datetime import UTC, timedelta

import numpy as np
from sqlalchemy import text

from db.writing.rows import to_microseconds
from db.writing.writes import record_gap, replace_segment


def one_face_at(rows, moment):
    """Return the first observation of the rows, moved to the time."""
    at = np.array([to_microseconds(moment)]).astype("datetime64[us]")
    return replace(rows.take(np.array([0])), ts=at)


def with_shots(rows, *moments):
    """Return the rows with these shots; nothing was seen before them."""
    at = np.array([to_microseconds(m) for m in moments]).astype("datetime64[us]")
    return replace(rows, shots=at, seen_before=np.full(len(at), np.datetime64("NaT", "us")))


def column(engine, sql):
    with engine.connect() as connection:
        return connection.scalars(text(sql)).all()


def test_what_a_reanalysis_does_not_know_stays(engine, show, observe):
    """Its path, machine and lag; a tracker state that is None is null, not JSON's null."""
    known = show.segment(0, path="here.ts", machine="one", lag_ms=321, tracker_state={"a": 1})
    replace_segment(engine, known, observe(known))
    again = replace(known, path=None, machine=None, lag_ms=None, tracker_state=None)
    replace_segment(engine, again, observe(again))
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT path, machine, lag_ms, tracker_state IS NULL FROM segments")
        ).one()
    assert tuple(row) == ("here.ts", "one", 321, True)


def test_a_track_that_goes_on_in_one_frame_keeps_its_end(
    engine, show, observe, tables, assert_sound
):
    """Its only frame in the next segment is the first one there, just outside the range."""
    first, second = show.segment(0), show.segment(1)
    replace_segment(engine, second, one_face_at(observe(second, (1,)), second.started_at))
    replace_segment(engine, first, observe(first, (1,)))
    replace_segment(engine, first, observe(first, (2,)))
    assert_sound(show.channel_id)
    assert [row[4] for row in tables()["face_tracks"]] == [
        second.started_at,
        first.started_at + timedelta(seconds=1.8),
    ]


def test_a_track_seen_once_at_the_start_is_deleted_with_its_row(
    engine, show, observe, tables, assert_sound
):
    """And one whose last frame is the first of the range, but which began before it."""
    first, second = show.segment(0), show.segment(1)
    replace_segment(engine, first, observe(first, (1,)))
    rows = observe(second, (1, 2))
    at_start = rows.take(np.flatnonzero(rows.ts == rows.ts[0]))
    replace_segment(engine, second, at_start)
    counts = replace_segment(engine, second, rows.take(np.array([], dtype=np.int64)))
    assert (counts.replaced, counts.stale_tracks) == (2, 1)
    assert_sound(show.channel_id)
    assert [row[2] for row in tables()["face_tracks"]] == [1]


def test_tracks_outside_the_range_are_not_touched(engine, show, observe, tables):
    """Only tracks that lost rows are corrected: others may have lost theirs to retention."""
    for index, tracks in enumerate([(1,), (2,), (1, 3)]):
        replace_segment(engine, show.segment(index), observe(show.segment(index), tracks))
    before = tables()["face_tracks"]
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM observations WHERE ts < :start OR ts >= :end"),
            {"start": show.segment(1).started_at, "end": show.segment(2).started_at},
        )
    replace_segment(engine, show.segment(1), observe(show.segment(1), (2,)))
    assert tables()["face_tracks"] == before


def test_shots_are_replaced_in_a_half_open_range(engine, show, observe, tables):
    first, second = show.segment(0), show.segment(1)
    inside = first.started_at + timedelta(seconds=1)
    replace_segment(engine, second, with_shots(observe(second), second.started_at))
    replace_segment(engine, first, with_shots(observe(first), first.started_at, inside))
    starts = [first.started_at, inside, second.started_at]
    assert [row[1] for row in tables()["shots"]] == starts
    replace_segment(engine, first, with_shots(observe(first), inside))
    assert [row[1] for row in tables()["shots"]] == starts[1:]
    replace_segment(engine, second, observe(second))
    assert [row[1] for row in tables()["shots"]] == [inside]


def test_a_segment_that_arrives_late_shortens_the_gap(engine, show, observe, tables, t0):
    """A gap of 4 s that begins before it: what is left is what the segment does not cover."""
    with engine.begin() as connection:
        record_gap(
            connection,
            channel_id=show.channel_id,
            broadcast_id=show.broadcast_id,
            started_at=t0,
            ended_at=t0 + timedelta(seconds=4),
            why="stalled",
        )
    replace_segment(engine, show.segment(1), observe(show.segment(1)))
    assert [row[1:3] for row in tables()["gaps"]] == [(t0, t0 + timedelta(seconds=2))]


def test_a_broadcast_says_from_when_to_when_it_was_observed(engine, show, observe):
    """In whole hours, outwards. One that ends at the full hour has no frame in the next one."""
    start = show.segment(0).started_at.replace(minute=59, second=58)
    bounds = "SELECT unnest(ARRAY[observed_from, observed_until]) FROM broadcasts"

    def store(index, started_at):
        segment = show.segment(index, started_at=started_at)
        replace_segment(engine, segment, observe(segment))
        hour = start.replace(minute=0, second=0)
        return [(at.astimezone(UTC) - hour) / timedelta(hours=1) for at in column(engine, bounds)]

    assert store(0, start) == [0, 2]
    assert store(1, start + timedelta(seconds=2)) == [0, 2]
    assert store(2, start - timedelta(hours=1)) == [-1, 2]
    assert store(3, start + timedelta(hours=1)) == [-1, 2]
    assert store(4, start + timedelta(hours=1, seconds=1)) == [-1, 3]


def test_when_a_broadcast_was_stored_is_renewed_after_an_hour(engine, show, observe):
    replace_segment(engine, show.segment(0), observe(show.segment(0)))
    with engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET stored_at = now() - interval '59 minutes'"))
    replace_segment(engine, show.segment(1), observe(show.segment(1)))
    is_new = "SELECT stored_at > now() - interval '10 minutes' FROM broadcasts"
    assert column(engine, is_new) == [False]
    with engine.begin() as connection:
        connection.execute(text("UPDATE broadcasts SET stored_at = now() - interval '61 minutes'"))
    replace_segment(engine, show.segment(2), observe(show.segment(2)))
    assert column(engine, is_new) == [True]
