"""Queries of the application."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from db.errors import UnknownChannel
from db.reading import queries
from db.reading.newest import newest
from db.tables.shows import EMOTIONS
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    fail_segment,
    record_gap,
    record_segment,
    replace_segment,
)


@pytest.fixture
def filled(engine, show, observe):
    """Ten analysed segments, one failed, one only recorded, and a gap."""
    for index in range(10):
        segment = show.segment(index, lag_ms=100 * index, tracker_state={"after": index})
        replace_segment(engine, segment, observe(segment, (1, 2) if index < 5 else (2,)))
    with engine.begin() as connection:
        fail_segment(connection, show.segment(10), "no video stream")
        record_segment(connection, show.segment(11))
        record_gap(
            connection,
            channel_id=show.channel_id,
            broadcast_id=show.broadcast_id,
            started_at=show.segment(12).started_at,
            ended_at=show.segment(14).started_at,
            why="the source stalled",
        )
    return show


def test_channels_are_listed_by_slug(engine, new_show):
    for slug in ("zoo", "ant"):
        new_show(slug)
    with engine.begin() as connection:
        ensure_channel(connection, "new", "http://new")
        listed = queries.channels(connection)
    assert [(row.slug, row.n_broadcasts) for row in listed] == [("ant", 1), ("zoo", 1)]


def test_an_unknown_channel_names_those_there_are(engine, new_show):
    with engine.connect() as connection:
        with pytest.raises(UnknownChannel, match="nothing has been watched or analysed yet"):
            queries.summary(connection, "x")
        new_show("demo")
        with pytest.raises(UnknownChannel, match="no channel 'x': there are demo"):
            queries.channel_id(connection, "x")
        assert queries.channel_id(connection, "demo") > 0


def test_segments_come_back_as_they_went_in(engine, show):
    rows = [
        show.segment(1, offset_s=4.5, start_is_estimated=True, width_px=640, height_px=360),
        show.segment(0),
    ]
    with engine.begin() as connection:
        for row in rows:
            record_segment(connection, row)
        assert queries.segments_of(connection, show.broadcast_id) == rows[::-1]


def test_the_trackers_state_is_the_one_before(engine, filled):
    with engine.connect() as connection:
        for index, state in ((0, None), (1, {"after": 0}), (5, {"after": 4}), (12, {"after": 9})):
            at = filled.segment(index).started_at
            assert queries.tracker_state_before(connection, filled.broadcast_id, at) == state


def test_the_summary_of_everything(engine, filled, observe, t0):
    with engine.connect() as connection:
        summary = queries.summary(connection, "demo")
    smoothed = np.concatenate(
        [
            observe(filled.segment(i), (1, 2) if i < 5 else (2,)).smoothed.astype(float)
            for i in range(10)
        ]
    )
    of_seconds = smoothed.reshape(-1, 5, 8)  # 5 frames a second, two faces in each of the first 10
    seconds = np.concatenate(
        [of_seconds[:20].reshape(10, 10, 8).mean(axis=1), of_seconds[20:].mean(axis=1)]
    )
    share = dict(zip(EMOTIONS, seconds.mean(axis=0), strict=True))
    first = [EMOTIONS[i] for i in np.nanargmax(seconds, axis=1)]
    assert summary.time_share.pop("contempt") is None
    assert summary.time_share == pytest.approx({e: first.count(e) / 20 for e in EMOTIONS[:7]})
    assert summary.share.pop("contempt") is None
    assert summary.share == pytest.approx({e: v for e, v in share.items() if e != "contempt"})
    assert summary.emotion == max(summary.share, key=summary.share.get)
    assert (summary.n_observations, summary.n_tracks, summary.n_frames) == (150, 2, 100)
    assert summary.segments == {"analysed": 10, "failed": 1, "recorded": 1}
    assert (summary.n_gaps, summary.gap_s, summary.recorded_s) == (1, 4.0, 24.0)
    assert (summary.median_lag_ms, summary.p95_lag_ms) == pytest.approx((450.0, 855.0))
    assert (summary.first_ts, summary.last_ts) == (t0, t0 + timedelta(seconds=19.8))


def test_the_summary_of_a_range_cuts_to_it(engine, filled, t0):
    with engine.connect() as connection:
        part = queries.summary(
            connection, "demo", t0 + timedelta(seconds=8), t0 + timedelta(seconds=12)
        )
        hole = queries.summary(
            connection, "demo", t0 + timedelta(seconds=25), t0 + timedelta(seconds=99)
        )
    assert (part.n_observations, part.n_tracks, part.segments) == (30, 2, {"analysed": 2})
    assert (hole.gap_s, hole.n_observations, hole.emotion, hole.first_ts) == (3.0, 0, None, None)
    assert set(hole.share.values()) == {None}


def test_the_timeline_has_a_row_a_bucket_that_holds_something(engine, filled, observe, t0):
    segment = filled.segment(100)
    replace_segment(engine, segment, observe(segment, (3,)))
    with engine.connect() as connection:
        line = queries.timeline(connection, "demo", bucket_s=5)
        nothing = queries.timeline(connection, "demo", t0 + timedelta(hours=1))
    assert line.start.tolist() == [
        t0.replace(tzinfo=None) + timedelta(seconds=second) for second in (0, 5, 10, 15, 200)
    ]
    assert line.seconds.tolist() == [5, 5, 5, 5, 2]
    np.testing.assert_allclose(
        line.emotions[-1], observe(segment, (3,)).smoothed.mean(axis=0), rtol=1e-6
    )
    assert np.isnan(line.emotions[:, 7]).all()
    assert (len(nothing.start), nothing.emotions.shape) == (0, (0, 8))


@pytest.mark.parametrize("bucket_s", [0, -1, 0.5, 1.5, float("nan"), float("inf")])
def test_a_bucket_must_be_whole_seconds(engine, filled, bucket_s):
    with engine.connect() as connection, pytest.raises(ValueError, match="bucket_s"):
        queries.timeline(connection, "demo", bucket_s=bucket_s)


def test_means_are_over_time_however_often_a_second_was_looked_at(engine, show, observe, t0):
    """Two seconds with two faces at 5 frames a second, then two with one at one a second."""
    often, seldom = show.segment(0), show.segment(1)
    replace_segment(engine, often, crowd := observe(often, (1, 2)))
    replace_segment(engine, seldom, alone := observe(seldom, (1,), fps=1.0))
    seconds = np.concatenate(
        [crowd.smoothed.astype(float).reshape(2, 10, 8).mean(axis=1), alone.smoothed]
    )
    mine = crowd.smoothed[crowd.track == 1].astype(float).reshape(2, 5, 8).mean(axis=1)
    of_track = np.concatenate([mine, alone.smoothed]).mean(axis=0)
    with engine.connect() as connection:
        line = queries.timeline(connection, "demo", bucket_s=60)
        found = queries.tracks(connection, "demo")
    np.testing.assert_allclose(line.emotions[0], seconds.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.emotions[0], of_track, rtol=1e-6)
    assert (found.n.tolist(), line.seconds.tolist()) == ([12, 10], [4])


def test_tracks_by_their_first_observation(engine, filled, t0):
    with engine.connect() as connection:
        found = queries.tracks(connection, "demo")
        late = queries.tracks(connection, "demo", t0 + timedelta(seconds=10))
    assert found.track.tolist() == [1, 2]
    assert found.n.tolist() == [50, 100]
    assert found.last_ts.tolist()[0] == t0.replace(tzinfo=None) + timedelta(seconds=9.8)
    assert found.emotion.tolist() == [
        EMOTIONS[index] for index in np.nanargmax(found.emotions, axis=1)
    ]
    assert (late.track.tolist(), late.n.tolist()) == ([2], [50])


def test_ranges_must_be_aware_and_may_be_in_any_zone(engine, filled, t0):
    east = timezone(timedelta(hours=9))
    with engine.connect() as connection:
        there = queries.summary(connection, "demo", (t0 + timedelta(seconds=10)).astimezone(east))
        assert there.n_observations == 50
        with pytest.raises(ValueError, match="since must be aware"):
            queries.summary(connection, "demo", datetime(2026, 1, 1))  # noqa: DTZ001


def test_newest_tells_how_the_show_goes(engine, filled, observe, t0):
    with engine.connect() as connection:
        found = newest(connection, "demo")
    assert found is not None
    assert (found.broadcast_id, found.status) == (filled.broadcast_id, "live")
    assert found.segments == {"analysed": 10, "failed": 1, "recorded": 1}
    assert (found.n_observations, found.n_tracks, found.n_faces) == (150, 2, 1)
    assert found.ts == t0 + timedelta(seconds=19.8)
    assert found.emotion == EMOTIONS[np.nanargmax(observe(filled.segment(9), (2,)).smoothed[-1])]
    assert (found.lag_ms, found.recorded_until) == (900, filled.segment(12).started_at)


def test_newest_of_a_show_that_just_began(engine, filled, new_show):
    with engine.begin() as connection:
        close_broadcast(
            connection,
            filled.broadcast_id,
            ended_at=datetime(2026, 11, 22, 19, tzinfo=UTC),
            status="completed",
        )
    again = new_show(started_at=datetime(2026, 11, 23, tzinfo=UTC))
    with engine.begin() as connection:
        found = newest(connection, "demo")
        ensure_channel(connection, "quiet", "http://quiet")
        assert newest(connection, "quiet") is None
    assert found is not None
    assert (found.broadcast_id, found.n_observations, found.ts) == (again.broadcast_id, 0, None)
    assert (found.segments, found.emotion, found.n_faces) == ({}, None, 0)


def test_observations_from_before_the_watch_count_as_newest(engine, show, observe, t0):
    """The source's clock may lag behind ours: observations can be earlier than the watch."""
    early = replace(show.segment(0), started_at=t0 - timedelta(seconds=30))
    replace_segment(engine, early, observe(early))
    with engine.connect() as connection:
        found = newest(connection, "demo")
    assert found is not None
    assert found.ts == t0 - timedelta(seconds=28.2)
