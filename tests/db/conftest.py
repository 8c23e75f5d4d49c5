"""Builders of rows, and a channel to put them in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from db.writing.means import FRESH_MINUTES, FRESH_SECONDS
from db.writing.rows import to_microseconds
from db.writing.writes import ObservationRows, SegmentRow, ensure_channel, open_broadcast

T0 = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)

TABLES = {
    "channels": "id",
    "broadcasts": "id",
    "segments": "channel_id, started_at",
    "gaps": "broadcast_id, started_at",
    "face_tracks": "id",
    "observations": "channel_id, ts, track_id",
    "emotion_minutes": "channel_id, minute, broadcast_id",
    "seconds": "channel_id, second, broadcast_id",
    "shots": "channel_id, started_at",
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
    """Create observations of some tracks at 5 frames a second."""

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
    """Return all rows of all tables, by primary key."""

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


@pytest.fixture
def fresh_minutes(engine: Engine) -> Callable[[int], list[tuple[Any, ...]]]:
    """Aggregate all minutes of a channel from raw rows."""

    def read(channel: int) -> list[tuple[Any, ...]]:
        span = {
            "channel": channel,
            "first_minute": datetime(2000, 1, 1, tzinfo=UTC),
            "end_minute": datetime(2100, 1, 1, tzinfo=UTC),
        }
        with engine.connect() as connection:
            rows = connection.execute(text(FRESH_MINUTES + " ORDER BY 1, 2, 3"), span)
            return [tuple(row) for row in rows]

    return read


@pytest.fixture
def fresh_seconds(engine: Engine) -> Callable[[int], list[tuple[Any, ...]]]:
    """Aggregate all seconds of a channel from raw rows and segments."""

    def read(channel: int) -> list[tuple[Any, ...]]:
        span = {
            "channel": channel,
            "first_second": datetime(2000, 1, 1, tzinfo=UTC),
            "end_second": datetime(2100, 1, 1, tzinfo=UTC),
        }
        with engine.connect() as connection:
            rows = connection.execute(text(FRESH_SECONDS + " ORDER BY 2, 1, 3"), span)
            return [tuple(row) for row in rows]

    return read


@pytest.fixture
def raw_ends(engine: Engine) -> Callable[[], list[tuple[Any, ...]]]:
    """Return the first and last time of each track, from raw rows."""

    def read() -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT track_id, min(ts), max(ts) FROM observations GROUP BY 1 ORDER BY 1")
            )
            return [tuple(row) for row in rows]

    return read


@pytest.fixture
def assert_sound(tables, fresh_minutes, fresh_seconds, raw_ends) -> Callable[[int], None]:
    """Assert that minutes and tracks equal those computed from the raw rows."""

    def check(channel: int) -> None:
        now = tables()
        assert now["seconds"] == fresh_seconds(channel)
        assert now["emotion_minutes"] == fresh_minutes(channel)
        assert [(row[0], row[3], row[4]) for row in now["face_tracks"]] == raw_ends()

    return check
