"""The small writes: idempotent, and keeping existing results."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from db.reading import queries
from db.tables.shows import EMOTIONS
from db.writing.writes import (
    ObservationRows,
    close_broadcast,
    ensure_channel,
    ensure_partition,
    fail_segment,
    find_open_broadcast,
    open_broadcast,
    record_gap,
    record_lag,
    record_segment,
    replace_segment,
)
from emotion.types import EMOTIONS as EMOTIONS_OF_THE_NETWORKS


def test_the_emotions_of_the_tables_are_those_of_the_networks():
    assert EMOTIONS == EMOTIONS_OF_THE_NETWORKS


def test_a_channel_keeps_its_id_and_the_last_url(engine):
    with engine.begin() as connection:
        first = ensure_channel(connection, "a", "http://one")
        other = ensure_channel(connection, "b", "http://one")
        assert ensure_channel(connection, "a", "http://two") == first != other
        urls = connection.scalars(text("SELECT url FROM channels ORDER BY slug"))
        assert list(urls) == ["http://two", "http://one"]


def test_a_broadcast_is_found_until_it_is_closed(engine, show, t0):
    with engine.begin() as connection:
        for index in range(3):
            record_segment(connection, show.segment(index))
        found = find_open_broadcast(connection, show.channel_id)
        assert found is not None
        assert (found.id, found.started_at, found.title) == (show.broadcast_id, t0, None)
        assert (found.next_sequence, found.recorded_until) == (3, show.segment(3).started_at)
        close_broadcast(
            connection, show.broadcast_id, ended_at=t0 + timedelta(hours=1), status="completed"
        )
        assert find_open_broadcast(connection, show.channel_id) is None


def test_a_broadcast_without_segments_begins_at_zero(engine, show):
    with engine.connect() as connection:
        found = find_open_broadcast(connection, show.channel_id)
    assert found is not None
    assert (found.next_sequence, found.recorded_until) == (0, None)


def test_the_same_start_opens_the_same_broadcast(engine, show, t0):
    with engine.begin() as connection:
        close_broadcast(connection, show.broadcast_id, ended_at=t0, status="failed")
        again = open_broadcast(
            connection,
            channel_id=show.channel_id,
            started_at=t0,
            title="Tonight",
            status="interrupted",
        )
        assert again == show.broadcast_id
        assert find_open_broadcast(connection, show.channel_id) is None
        row = connection.execute(text("SELECT title, ended_at, status FROM broadcasts")).one()
    assert tuple(row) == ("Tonight", None, "interrupted")


def test_an_unknown_status_is_refused(engine, show, t0):
    with engine.begin() as connection, pytest.raises(ValueError, match="status must be one of"):
        close_broadcast(connection, show.broadcast_id, ended_at=t0, status="gone")


def test_recording_again_does_not_undo_an_analysis(engine, show, observe, tables):
    segment = show.segment(0)
    replace_segment(engine, segment, observe(segment))
    before = tables()
    with engine.begin() as connection:
        record_segment(connection, replace(segment, path="elsewhere"))
    assert tables() == before


def test_recording_by_another_broadcast_takes_the_segment_over(engine, show, new_show, observe):
    segment = show.segment(0)
    replace_segment(engine, segment, observe(segment))
    other = new_show(started_at=segment.started_at - timedelta(hours=1))
    with engine.begin() as connection:
        record_segment(connection, replace(segment, broadcast_id=other.broadcast_id))
        (row,) = queries.segments_of(connection, other.broadcast_id)
    assert row.status == "recorded"


def test_a_failure_is_kept_and_a_success_clears_it(engine, show, observe):
    segment = show.segment(0)
    with engine.begin() as connection:
        record_segment(connection, segment)
        fail_segment(connection, segment, "truncated")
        (row,) = queries.segments_of(connection, show.broadcast_id)
        assert (row.status, row.error) == ("failed", "truncated")
    replace_segment(engine, segment, observe(segment))
    with engine.connect() as connection:
        (row,) = queries.segments_of(connection, show.broadcast_id)
    assert (row.status, row.error) == ("analysed", None)


def test_a_failed_reanalysis_leaves_what_was_found_and_says_why(engine, show, observe, tables):
    segment = show.segment(0, tracker_state={"kept": 1})
    replace_segment(engine, segment, observe(segment))
    before = tables()
    with engine.begin() as connection:
        fail_segment(connection, replace(segment, tracker_state=None), "file is gone")
        (row,) = queries.segments_of(connection, show.broadcast_id)
    assert row == replace(segment, status="analysed", error="file is gone")
    assert tables()["observations"] == before["observations"]


def test_a_lag_is_noted_on_its_segment_alone(engine, show):
    with engine.begin() as connection:
        for index in range(2):
            record_segment(connection, show.segment(index))
        record_lag(connection, show.segment(1), lag_ms=321)
        lags = [row.lag_ms for row in queries.segments_of(connection, show.broadcast_id)]
    assert lags == [None, 321]


def test_a_gap_that_grows_is_one_gap(engine, show, tables, t0):
    with engine.begin() as connection:
        for seconds, why in ((2, "stalled"), (5, "stalled, then 404")):
            record_gap(
                connection,
                channel_id=show.channel_id,
                broadcast_id=show.broadcast_id,
                started_at=t0,
                ended_at=t0 + timedelta(seconds=seconds),
                why=why,
            )
    assert tables()["gaps"] == [
        (show.broadcast_id, t0, t0 + timedelta(seconds=5), show.channel_id, "stalled, then 404")
    ]


def test_a_partition_is_made_once_and_covers_its_month_in_utc(engine, show):
    with engine.begin() as connection:
        for _ in range(2):
            name = ensure_partition(connection, datetime(2027, 2, 28, 23, 59, tzinfo=UTC))
            assert name == "observations_2027_02"
        bounds = connection.scalar(
            text("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = :name"),
            {"name": name},
        )
    assert bounds == ("FOR VALUES FROM ('2027-02-01 00:00:00+00') TO ('2027-03-01 00:00:00+00')")


def test_tracker_state_must_be_json(engine, show, observe):
    segment = show.segment(0, tracker_state={"bad": float("nan")})
    with pytest.raises(StatementError, match="not JSON compliant"):
        replace_segment(engine, segment, observe(segment))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("ts", lambda a: a.astype("datetime64[ms]")),
        ("ts", lambda a: np.full_like(a, np.datetime64("NaT"))),
        ("track", lambda a: a * 0),
        ("track", lambda a: a + 100_000_000),
        ("track", lambda a: a.astype(np.int32)),
        ("boxes", lambda a: a * np.nan),
        ("scores", lambda a: a[:-1]),
        ("probs", lambda a: a[:, :7]),
        ("smoothed", lambda a: a.astype(np.float64)),
    ],
)
def test_rows_of_the_wrong_kind_are_refused(show, observe, field, change):
    rows = observe(show.segment(0))
    with pytest.raises(ValueError, match=field):
        replace(rows, **{field: change(getattr(rows, field))})


def test_no_observations_are_rows_too(engine, show):
    empty = ObservationRows(
        ts=np.empty(0, "datetime64[us]"),
        track=np.empty(0, np.int64),
        boxes=np.empty((0, 4), np.float32),
        scores=np.empty(0, np.float32),
        probs=np.empty((0, 8), np.float32),
        smoothed=np.empty((0, 8), np.float32),
    )
    counts = replace_segment(engine, show.segment(0), empty)
    assert (counts.observations, counts.tracks) == (0, 0)


def test_segment_times_must_be_aware_and_in_order(show):
    with pytest.raises(ValueError, match="aware"):
        replace(show.segment(0), started_at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="duration_s"):
        replace(show.segment(0), duration_s=0.0)
