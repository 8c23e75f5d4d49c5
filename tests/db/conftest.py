"""Builders of rows, and a channel to put them in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from db.rows import to_microseconds
from db.writes import ObservationRows, SegmentRow, ensure_channel, open_broadcast

T0 = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)

TABLES = {
    "channels": "id",
    "broadcasts": "id",
    "segments": "channel_id, started_at",
    "gaps": "broadcast_id, started_at",
    "face_tracks": "id",
    "observations": "channel_id, ts, track_id",
    "emotion_minutes": "channel_id, minute, broadcast_id",
}


@dataclass(frozen=True)
class Show:
    """A channel with one broadcast from T0 on."""

    channel_id: int
    broadcast_id: int

    def segment(self, index: int, *, seconds: float = 2.0, **other: Any) -> SegmentRow:
        fields: dict[str, Any] = {
            "channel_id": self.channel_id,
            "broadcast_id": self.broadcast_id,
            "sequence": index,
            "started_at": T0 + timedelta(seconds=index * seconds),
            "duration_s": seconds,
            "path": f"{index}.ts",
            "model": "net",
            "frames_analysed": round(seconds * 5),
        }
        return SegmentRow(**(fields | other))


@pytest.fixture
def t0() -> datetime:
    return T0


@pytest.fixture
def new_show(engine: Engine) -> Callable[..., Show]:
    def make(slug: str = "demo", *, started_at: datetime = T0, **other: Any) -> Show:
        with engine.begin() as connection:
            channel = ensure_channel(connection, slug, f"http://{slug}")
            broadcast = open_broadcast(
                connection, channel_id=channel, started_at=started_at, **other
            )
        return Show(channel, broadcast)

    return make


@pytest.fixture
def show(new_show: Callable[..., Show]) -> Show:
    return new_show()


@pytest.fixture
def observe() -> Callable[..., ObservationRows]:
    """Build observations of some tracks at 5 frames a second."""

    def make(
        segment: SegmentRow,
        tracks: tuple[int, ...] = (1, 2, 3),
        *,
        seed: int = 0,
        fps: float = 5.0,
        lacking: tuple[int, ...] = (7,),
    ) -> ObservationRows:
        random = np.random.default_rng([seed, segment.sequence])
        frames = max(1, round(segment.duration_s * fps))
        step = np.timedelta64(round(1e6 / fps), "us")
        times = to_microseconds(segment.started_at) + np.arange(frames) * step
        m = frames * len(tracks)
        probs = random.dirichlet(np.ones(8), m).astype(np.float32)
        smoothed = random.dirichlet(np.ones(8), m).astype(np.float32)
        probs[:, list(lacking)] = smoothed[:, list(lacking)] = np.nan
        return ObservationRows(
            ts=np.repeat(times, len(tracks)).astype("datetime64[us]"),
            track=np.tile(np.array(tracks, dtype=np.int64), frames),
            boxes=random.uniform(0, 640, (m, 4)).astype(np.float32),
            scores=random.uniform(0.5, 1, m).astype(np.float32),
            probs=probs,
            smoothed=smoothed,
        )

    return make


@pytest.fixture
def tables(engine: Engine) -> Callable[[], dict[str, list[tuple[Any, ...]]]]:
    """Read every table whole, in the order of its key."""

    def read() -> dict[str, list[tuple[Any, ...]]]:
        with engine.connect() as connection:
            return {
                table: [
                    tuple(row)
                    for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY {key}"))
                ]
                for table, key in TABLES.items()
            }

    return read
