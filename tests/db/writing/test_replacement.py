"""Storing a segment: idempotent, with correct minutes and tracks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from db.errors import UnknownChannel
from db.session import make_engine
from db.tables.shows import EMOTIONS
from db.writing.writes import replace_segment


def test_what_is_stored_is_what_was_given(engine, show, observe, tables):
    segment, rows = show.segment(0, tracker_state={"a": [0.1, 1e-17]}), None
    rows = observe(segment)
    counts = replace_segment(engine, segment, rows)
    assert (counts.observations, counts.tracks, counts.replaced) == (30, 3, 0)
    stored = tables()["observations"]
    got = np.array([[np.nan if cell is None else cell for cell in row[3:24]] for row in stored])
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


def test_is_idempotent(engine, show, observe, tables):
    for index in range(4):
        replace_segment(engine, show.segment(index), observe(show.segment(index)))
    before = tables()
    counts = replace_segment(engine, show.segment(1), observe(show.segment(1)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (30, 30, 0)
    assert tables() == before


def test_reanalysis_of_all_in_any_order_leaves_identical_tables(
    engine, show, observe, tables, assert_sound
):
    segments = [show.segment(index) for index in range(8)]
    seen = [(1, 2), (2,), (2, 3), (3,), (), (4,), (4, 5), (5,)]
    for segment, tracks in zip(segments, seen, strict=True):
        replace_segment(engine, segment, observe(segment, tracks))
    before = tables()
    for index in (5, 0, 7, 3, 3, 1, 6, 2, 4):
        replace_segment(engine, segments[index], observe(segments[index], seen[index]))
    assert tables() == before
    assert_sound(show.channel_id)


def test_fewer_faces_leave_no_stale_row_and_no_stale_track(
    engine, show, observe, tables, assert_sound
):
    for index in range(3):
        replace_segment(engine, show.segment(index), observe(show.segment(index), (1, 2)))
    replace_segment(engine, show.segment(3), observe(show.segment(3), (2, 9)))
    counts = replace_segment(engine, show.segment(3), observe(show.segment(3), (2,)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 10, 1)
    counts = replace_segment(engine, show.segment(0), observe(show.segment(0), ()))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 0, 0)
    assert_sound(show.channel_id)
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


def test_another_broadcast_takes_the_range_over(
    engine, show, new_show, observe, tables, assert_sound
):
    for index in range(3):
        replace_segment(engine, show.segment(index), observe(show.segment(index), (1, index + 2)))
    other = new_show(started_at=show.segment(1).started_at)
    segment = replace(show.segment(1), broadcast_id=other.broadcast_id)
    counts = replace_segment(engine, segment, observe(segment, (1,)))
    assert (counts.replaced, counts.observations, counts.stale_tracks) == (20, 10, 1)
    assert_sound(show.channel_id)


def test_another_channel_at_the_same_time_is_left_alone(engine, show, new_show, observe, tables):
    replace_segment(engine, show.segment(0), observe(show.segment(0)))
    other = new_show("other")
    assert replace_segment(engine, other.segment(0), observe(other.segment(0))).replaced == 0
    assert len(tables()["observations"]) == 60


def mean_known(values: list[Any]) -> Any:
    """Return the mean of each column, ignoring NaN; NaN without values."""
    known = ~np.isnan(np.array(values))
    with np.errstate(invalid="ignore"):
        return np.nansum(np.array(values), axis=0) / known.sum(axis=0)


def test_a_random_history_keeps_minutes_and_tracks_true(
    engine, show, observe, tables, assert_sound
):
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
            assert_sound(show.channel_id)
    assert_sound(show.channel_id)
    by_hand: dict[tuple[Any, int], list[list[float]]] = {}
    for row in tables()["observations"]:
        values = [np.nan if cell is None else cell for cell in row[16:24]]
        second = row[0].replace(microsecond=0)
        by_hand.setdefault((second, row[1] // 100_000_000), []).append(values)
    seconds = {key: mean_known(values) for key, values in by_hand.items()}
    minutes = {(row[1], row[2]): row for row in tables()["emotion_minutes"]}
    assert minutes.keys() == {(at.replace(second=0), number) for at, number in by_hand}
    for (minute, number), row in minutes.items():
        own = [key for key in by_hand if (key[0].replace(second=0), key[1]) == (minute, number)]
        got = [np.nan if cell is None else cell for cell in row[5:13]]
        np.testing.assert_allclose(got, mean_known([seconds[key] for key in own]), rtol=1e-5)
        assert row[3] == sum(len(by_hand[key]) for key in own)
        assert row[13] == sum(row[14:22]) == len(own)


def test_times_do_not_depend_on_the_session(
    database_url, engine, show, observe, tables, assert_sound
):
    """A zone with half-hour summer time, a segment across the change and across a month."""
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
    assert_sound(show.channel_id)
    assert [row[1].second for row in tables()["emotion_minutes"]] == [0, 0, 0]
    with engine.connect() as connection:
        months = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY 1")
        ).all()
    assert months == ["observations_2026_10", "observations_2026_11"]


def test_an_unknown_channel_is_refused(engine, show, observe, tables):
    with pytest.raises(UnknownChannel):
        replace_segment(engine, replace(show.segment(0), channel_id=99), observe(show.segment(0)))
    with pytest.raises(ValueError, match="not of this channel"):
        replace_segment(engine, replace(show.segment(0), broadcast_id=99), observe(show.segment(0)))
    assert tables()["segments"] == []


def test_minutes_whose_raw_rows_are_gone_are_not_computed_again(engine, show, observe, tables):
    """Four minutes; the first, and the first half of the second, lose their raw rows."""
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
