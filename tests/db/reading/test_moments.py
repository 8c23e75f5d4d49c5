"""Peaks of emotions and emotions of tracks, compared with a computation in Python."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from db.reading.moments import cuts, strongest_moments, track_moods
from db.tables.shows import EMOTIONS, TRACKS_PER_BROADCAST
from db.writing import writes
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow

START = datetime(2026, 11, 22, 20, tzinfo=UTC)
M = 40


@pytest.fixture
def rows(engine):
    """Two tracks over eight seconds; contempt is unknown to the network."""
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/live")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=START)
    probs = np.random.default_rng(5).dirichlet(np.ones(7), M).astype(np.float32)
    probs = np.concatenate([probs, np.full((M, 1), np.nan, np.float32)], axis=1)
    made = ObservationRows(
        ts=np.datetime64("2026-11-22T20:00:00", "us")
        + np.repeat(np.arange(M // 2), 2) * np.timedelta64(400, "ms"),
        track=np.tile([1, 2], M // 2),
        boxes=np.zeros((M, 4), np.float32),
        scores=np.ones(M, np.float32),
        probs=probs,
        smoothed=probs,
    )
    segment = SegmentRow(
        channel_id=channel,
        broadcast_id=broadcast,
        sequence=0,
        started_at=START,
        duration_s=8.0,
        path="a.ts",
        model="m",
        frames_analysed=M // 2,
        analysed_fps=2.5,
    )
    replace_segment(engine, segment, made)
    return broadcast, made


def test_each_emotion_has_its_strongest_moment_in_the_range(engine, rows):
    _, made = rows
    until = START + timedelta(seconds=6)
    with engine.connect() as connection:
        found = strongest_moments(connection, "news", START, until)
    inside = made.ts < np.datetime64("2026-11-22T20:00:06", "us")
    assert {moment.emotion for moment in found} == set(EMOTIONS[:7])
    assert [moment.value for moment in found] == sorted((m.value for m in found), reverse=True)
    for moment in found:
        values = np.where(inside, made.smoothed[:, EMOTIONS.index(moment.emotion)], -1)
        best = int(values.argmax())
        assert moment.value == pytest.approx(values[best])
        assert moment.track == made.track[best]
        assert moment.ts == made.ts[best].item().replace(tzinfo=UTC)


def test_nothing_seen_has_no_moment(engine, rows):
    with engine.connect() as connection:
        later = START + timedelta(days=1)
        assert strongest_moments(connection, "news", later, later + timedelta(hours=1)) == []


def test_moods_are_the_strongest_mean_of_each_bucket(engine, rows):
    broadcast, made = rows
    wanted = broadcast * TRACKS_PER_BROADCAST + 2
    with engine.connect() as connection:
        moods = track_moods(
            connection,
            "news",
            START,
            START + timedelta(seconds=8),
            track_ids=np.array([wanted]),
            bucket_s=2.0,
        )
        with pytest.raises(ValueError, match="bucket_s"):
            track_moods(connection, "news", START, START, track_ids=moods.track_id, bucket_s=0)
    assert set(moods.track_id.tolist()) == {wanted}
    offsets = (moods.start - np.datetime64("2026-11-22T20:00:00", "us")) / np.timedelta64(1, "s")
    assert offsets.tolist() == [0, 2, 4, 6]
    seconds = (made.ts - made.ts[0]) / np.timedelta64(1, "s")
    for offset, emotion in zip(offsets, moods.emotion, strict=True):
        means = [
            made.smoothed[(made.track == 2) & (seconds // 1 == second), :7].mean(axis=0)
            for second in (offset, offset + 1)
        ]
        assert emotion == EMOTIONS[int(np.mean(means, axis=0).argmax())]


def test_cuts_are_where_shots_meet(engine, rows):
    """Starts of shows, starts after gaps, and cuts within advertisements do not count."""
    broadcast, made = rows
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/live")
    at = np.array([0, 3200, 4800], dtype="timedelta64[ms]")
    for number, (is_ad, last) in enumerate(((False, 400), (False, 4400), (True, 400))):
        start = START + timedelta(seconds=8 * number)
        shots = np.datetime64(start.replace(tzinfo=None), "us") + at
        before = shots - np.array([last, 400, 400], dtype="timedelta64[ms]")
        if number == 0:
            before[0] = np.datetime64("NaT")
        segment = SegmentRow(
            channel_id=channel,
            broadcast_id=broadcast,
            sequence=number,
            started_at=start,
            duration_s=8.0,
            frames_analysed=M // 2,
            analysed_fps=2.5,
            is_ad=is_ad,
        )
        nobody = made.take(np.arange(0))
        replace_segment(engine, segment, replace(nobody, shots=shots, seen_before=before))
    end = START + timedelta(seconds=24)
    with engine.connect() as connection:
        found = cuts(connection, "news", START, end, show_ids=[broadcast])
        part = cuts(connection, "news", found[1], found[2], show_ids=[broadcast])
        none = cuts(connection, "news", START, end, show_ids=[])
    seconds_of = [(moment - START).total_seconds() for moment in found]
    assert seconds_of == [3.2, 4.8, 11.2, 12.8]
    assert (part, none) == (found[1:2], [])
