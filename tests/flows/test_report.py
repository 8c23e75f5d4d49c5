"""A broadcast's report, as the UI shows it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from db import writes
from db.replacing import replace_segment
from db.rows import ObservationRows, SegmentRow
from emotion.types import EMOTIONS
from flows.report import markdown


def test_report_has_the_picture_the_tracks_and_the_way_on(engine: Engine, tmp_path: Path) -> None:
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
        text = markdown(connection, "news", start, status="completed")
    assert text.startswith(f"# news, {start:%Y-%m-%d %H:%M} UTC: completed")
    assert "![timeline](data:image/png;base64," in text
    assert f"| 3 | {start:%H:%M:%S} | 3.8 | 20 | anger | 65% |" in text
    assert f"The recording is in `{tmp_path}/20261122T200000Z-1`." in text
    assert "SELECT * FROM emotion_history WHERE channel = 'news'" in text
