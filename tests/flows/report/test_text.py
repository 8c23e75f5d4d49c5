"""A broadcast's report for the UI."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from db.reading.answers import Summary, Tracks
from db.writing import writes
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow
from emotion.types import EMOTIONS
from flows.report.text import _tracks, markdown, mood


def test_report_has_the_picture_the_tracks_and_commands(engine: Engine, tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/live")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=start)
        assert "| gaps | none |" in markdown(connection, "news", start)
    m = 20
    probs = np.full((m, len(EMOTIONS)), 0.05, np.float32)
    probs[:, EMOTIONS.index("anger")] = 0.65
    step = np.timedelta64(200_000, "us")
    replace_segment(
        engine,
        SegmentRow(
            channel_id=channel,
            broadcast_id=broadcast,
            sequence=0,
            started_at=start,
            duration_s=4.0,
            path=str(tmp_path / "20261122T200000Z-1" / "0.ts"),
            model="m",
            frames_analysed=m,
            analysed_fps=5.0,
        ),
        ObservationRows(
            ts=np.datetime64(start.replace(tzinfo=None), "us") + np.arange(m) * step,
            track=np.full(m, 3),
            boxes=np.zeros((m, 4), np.float32),
            scores=np.ones(m, np.float32),
            probs=probs,
            smoothed=probs,
        ),
    )
    with engine.connect() as connection:
        text = markdown(
            connection, "news", start, status="completed", page_url="http://127.0.0.1:4300"
        )
    assert text.startswith(f"# news, {start:%Y-%m-%d %H:%M} UTC: completed")
    assert (
        text.index("**mostly anger (100% of the time)")
        < text.index("![timeline]")
        < text.index("## Figures")
    )
    (moment,) = [line for line in text.splitlines() if line.startswith("- anger 65% at ")]
    assert f", track 3: `showmood play news --at {start:%Y-%m-%d}T" in moment
    assert "![timeline](data:image/png;base64," in text
    assert f"| 3 | {start:%H:%M:%S} | 3.8 | 20 | anger | 65% |" in text
    assert f"The recording is in `{tmp_path}/20261122T200000Z-1`." in text
    assert f"[See it on the page](http://127.0.0.1:4300/show/{broadcast})" in text
    assert "SELECT * FROM emotion_history WHERE channel = 'news'" in text


def tracks_of(*emotions: str) -> Tracks:
    n = len(emotions)
    first = np.datetime64("2026-11-22T20:00:00", "us") + np.arange(n) * np.timedelta64(1, "s")
    return Tracks(
        broadcast_id=np.ones(n, np.int64),
        track=np.arange(1, n + 1),
        n=np.full(n, 5),
        first_ts=first,
        last_ts=first + np.timedelta64(10, "s"),
        emotions=np.full((n, 8), 0.3),
        emotion=np.array(emotions, np.str_),
    )


def test_neutral_tracks_are_summarised_in_one_line() -> None:
    table = "\n".join(_tracks(tracks_of("neutral", "neutral", "anger", "neutral", "neutral")))
    assert "| 3 | 20:00:02 | 10.0 | 5 | anger | 30% |" in table
    assert "| 1 |" not in table
    assert "4 tracks are mostly neutral, 40 s together." in table
    few = "\n".join(_tracks(tracks_of("neutral", "anger")))
    assert "| 1 | 20:00:00" in few


def test_the_mood_is_one_sentence() -> None:
    found = Summary(
        channel="news", n_observations=9, n_tracks=2, n_frames=9, segments={"analysed": 1},
        n_gaps=0, gap_s=0.0, recorded_s=90.0, emotion="neutral", median_lag_ms=None,
        p95_lag_ms=None, first_ts=None, last_ts=None,
        share={"neutral": 0.4, "happiness": 0.3, "anger": 0.2, "contempt": None},
        time_share={"neutral": 0.6, "happiness": 0.3, "anger": 0.07, "contempt": None},
    )  # fmt: skip
    assert mood(found) == (
        "mostly neutral (60% of the time), then happiness 30% and anger 7%; "
        "2 faces followed in 1.5 minutes"
    )
    assert mood(replace(found, time_share={})) == "no face was seen"
