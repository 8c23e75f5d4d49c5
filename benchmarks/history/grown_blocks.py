"""Hours of shows, stored by the production code, which `benchmarks.history.grown_rows` copies."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from benchmarks.history.made_shows import make_show
from benchmarks.history.rows import Show, load
from db.writing.copying import HEADER, TRAILER, encode
from db.writing.rows import ObservationRows, to_microseconds
from db.writing.writes import close_broadcast, ensure_channel, ensure_partition, open_broadcast

CHANNELS: Final = ("late-night", "morning", "debate", *(f"channel-{n}" for n in range(3, 10)))
"""Channels, of which three are the cookbook's."""

SHOW_S: Final = 3600.0
SEGMENT_S: Final = 2
FIRST: Final = datetime(2024, 12, 1, 19, tzinfo=UTC)
"""Start of the first generated hour; the others are on the following days."""

BLOCKS: Final = 3
"""Generated hours per channel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Ten shows at once.

    packed: uint8 (M, n), their rows in COPY's format. show, track: int64 (M,), of each row.
    """

    start: datetime
    broadcasts: tuple[int, ...]
    packed: NDArray[np.uint8]
    show: NDArray[np.int64]
    track: NDArray[np.int64]


def make_block(engine: Engine, number: int) -> Block:
    """Store an hour of all channels with the production code, and return its rows."""
    start = FIRST + timedelta(days=number)
    broadcasts, channels, made = [], [], []
    for index, slug in enumerate(CHANNELS):
        with engine.begin() as connection:
            channel = ensure_channel(connection, slug, f"https://example.org/{slug}")
            broadcast = open_broadcast(connection, channel_id=channel, started_at=start)
            ensure_partition(connection, start)
        rows = _turned(make_show((number, index), start=start, seconds=SHOW_S))
        show = Show(number=index, channel=channel, broadcast=broadcast, start=start, rows=rows)
        with engine.begin() as connection:
            load(connection, show)
            _as_on_air(connection, show)
            end = start + timedelta(seconds=SHOW_S)
            close_broadcast(connection, broadcast, ended_at=end, status="completed")
        broadcasts.append(broadcast)
        channels.append(channel)
        made.append(rows)
    show_of = np.repeat(np.arange(len(made)), [len(rows) for rows in made])
    ts, track = (np.concatenate([getattr(r, name) for r in made]) for name in ("ts", "track"))
    segment = (ts - to_microseconds(start)) // np.timedelta64(SEGMENT_S, "s")
    order = np.lexsort((track, ts, show_of, segment))
    packed = np.concatenate(
        [
            _packed(encode(channel, broadcast, rows))
            for channel, broadcast, rows in zip(channels, broadcasts, made, strict=True)
        ]
    )
    return Block(
        start=start,
        broadcasts=tuple(broadcasts),
        packed=packed[order],
        show=show_of[order],
        track=track[order],
    )


def _turned(rows: ObservationRows) -> ObservationRows:
    turn = np.sin(rows.ts.astype(np.int64) / 7e6 + rows.track)
    return replace(rows, pose=np.stack([3 * turn, turn / 2], axis=1).astype(np.float32))


def _as_on_air(connection: Connection, show: Show) -> None:
    """Add a watcher's values to the segments: file, machine, frames, and the tracker's state."""
    random = np.random.default_rng(show.number)
    known = [float(each) for each in np.float32(random.random(57 + 3 * 24))]
    state = {
        "version": 3,
        "tracker": {
            "next": 12,
            "tracks": [
                {"number": n, "seen_us": 10**15 + n, "box": known[n : n + 4], "velocity": known[:4]}
                for n in range(3)
            ],
        },
        "smoother": [
            {"track": n, "seen_us": 10**15 + n, "mean": known[n : n + 8], "weight": known[:8]}
            for n in range(3)
        ],
        "histogram": known[:57],
        "usual": known[0],
        "seen_us": 10**15,
    }
    connection.execute(
        text(
            "UPDATE segments SET machine = 'north', width_px = 1280, height_px = 720,"
            " path = '/var/lib/showmood/recordings/' || :slug || '/20250101T190000Z-' || :broadcast"
            "  || '/' || lpad(CAST(sequence AS text), 8, '0') || '.ts',"
            " frames_us = ARRAY(SELECT 200000 * i FROM generate_series(0, 9) i),"
            " tracker_state = jsonb_set(CAST(:state AS jsonb), '{usual}', to_jsonb(random()))"
            " WHERE broadcast_id = :broadcast"
        ),
        {
            "slug": CHANNELS[show.number],
            "broadcast": show.broadcast,
            "state": json.dumps(state),
        },
    )


def _packed(payload: bytes) -> NDArray[np.uint8]:
    """Return rows in COPY's format, all of the same length."""
    body = payload[len(HEADER) : -len(TRAILER)]
    return np.frombuffer(body, dtype=np.uint8).reshape(-1, _row_bytes(body))


def _row_bytes(body: bytes) -> int:
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4 + max(0, length)
    return at
