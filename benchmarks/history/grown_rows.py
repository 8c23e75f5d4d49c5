"""A history of 100 M rows, made in minutes: for `benchmarks.history.grown`.

Thirty hours of show are made and stored with the statements of the write path, their seconds and
minutes computed by them. All other shows are these again at other times, under other numbers: what
is computed from raw rows is the same for them. Raw rows come by COPY into months without an index,
in the order in which ten channels on air at once would have stored them; then the index.
"""

import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, DateTime, Engine, text

from benchmarks.history.made_shows import make_show
from benchmarks.history.rows import Show, load
from db.tables.observations import Base
from db.tables.shows import TRACKS_PER_BROADCAST
from db.writing.copying import COPY, HEADER, TRAILER, encode
from db.writing.rows import ObservationRows, to_microseconds
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    ensure_partition,
    open_broadcast,
)

_log = logging.getLogger(__name__)

CHANNELS: Final = ("late-night", "morning", "debate", *(f"channel-{n}" for n in range(3, 10)))
"""Three are the cookbook's."""

SHOW_S: Final = 3600.0
SEGMENT_S: Final = 2
FIRST: Final = datetime(2024, 12, 1, 19, tzinfo=UTC)
"""When the first made hour begins; the others of it on the days after."""

YEAR: Final = datetime(2025, 1, 1, tzinfo=UTC)
BLOCKS: Final = 3
"""So many made hours a channel has."""

COPIED: Final = ("seconds", "emotion_minutes", "segments", "face_tracks")

# Postgres's form of a row for COPY: 2 bytes of count, then each field behind its length.
_FIELDS: Final = {"ts": (6, ">i8"), "track_id": (18, ">i8")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Ten shows at once.

    packed: uint8 (M, n), their rows as COPY reads them. show, track: int64 (M,), whose they are.
    """

    start: datetime
    broadcasts: tuple[int, ...]
    packed: NDArray[np.uint8]
    show: NDArray[np.int64]
    track: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A time at which a block's shows are on air again; first: the first of their numbers."""

    start: datetime
    block: Block
    first: int

    @property
    def shift(self) -> timedelta:
        """How much later than the block's own."""
        return self.start - self.block.start

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The numbers of its shows."""
        return np.arange(self.first, self.first + len(self.block.broadcasts))


def make_block(engine: Engine, number: int) -> Block:
    """Store an hour of all channels as the product does, and keep its rows."""
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
    """Give the segments what a watcher writes: file, machine, frames, and the tracker's state."""
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
    """Return rows of one form, all of the same bytes."""
    body = payload[len(HEADER) : -len(TRAILER)]
    return np.frombuffer(body, dtype=np.uint8).reshape(-1, _row_bytes(body))


def _moved(slot: Slot) -> bytes:
    """Return a slot's rows for COPY."""
    packed = slot.block.packed.copy()
    kind = {
        "names": list(_FIELDS),
        "formats": [form for _, form in _FIELDS.values()],
        "offsets": [offset for offset, _ in _FIELDS.values()],
        "itemsize": packed.shape[1],
    }
    fields = packed.view(np.dtype(kind))[:, 0]  # type: ignore[call-overload]
    fields["ts"] += slot.shift // timedelta(microseconds=1)
    fields["track_id"] = slot.numbers[slot.block.show] * TRACKS_PER_BROADCAST + slot.block.track
    return b"".join([HEADER, packed, TRAILER])


def _row_bytes(body: bytes) -> int:
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4 + max(0, length)
    return at


@contextmanager
def without_indexes(engine: Engine, tables: tuple[str, ...]) -> Iterator[None]:
    """Take the tables' indexes away, and make them again at the end."""
    drop, make = [], []
    with engine.begin() as connection:
        for table in tables:
            for name, definition in connection.execute(
                text(
                    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE conrelid = to_regclass(:t) AND contype IN ('p', 'u')"
                ),
                {"t": table},
            ):
                drop.append(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
                make.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
            for name, definition in connection.execute(
                text(
                    "SELECT indexname, indexdef FROM pg_indexes i WHERE tablename = :t"
                    " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = i.indexname)"
                ),
                {"t": table},
            ):
                drop.append(f"DROP INDEX {name}")
                make.append(definition)
        for statement in drop:
            connection.execute(text(statement))
    yield
    for statement in make:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
            connection.execute(text(statement))
            _log.info("%s", statement)


def grow(engine: Engine, blocks: list[Block], n_rows: int) -> int:
    """Add shows over a year until there are so many rows; return how many.

    Indexes of the small tables are made at the end, those of a month with it.
    """
    a_slot = sum(len(block.packed) for block in blocks) / len(blocks)
    n_slots = max(12, round(n_rows / a_slot))
    step = timedelta(days=365) / n_slots
    with engine.begin() as connection:
        number = int(connection.scalar(text("SELECT max(id) + 1 FROM broadcasts")) or 0)
    slots = []
    for n in range(n_slots):
        block = blocks[n % len(blocks)]
        start = (YEAR + step * n).replace(minute=0, second=0, microsecond=0)
        slots.append(Slot(start=start, block=block, first=number))
        number += len(block.broadcasts)
    made = 0
    with without_indexes(engine, COPIED):
        for month, of in groupby(slots, key=lambda slot: slot.start.replace(day=1, hour=0)):
            began, mine = time.perf_counter(), list(of)
            for slot in mine:
                with engine.begin() as connection:
                    _copy_the_rest(connection, slot)
            rows = _copy_month(engine, month, mine)
            made += rows
            took = time.perf_counter() - began
            _log.warning("%s: %d rows in %.0f s", f"{month:%Y-%m}", rows, took)
    with engine.begin() as connection:
        sequence = "SELECT setval(pg_get_serial_sequence('broadcasts', 'id'), :n)"
        connection.execute(text(sequence), {"n": number})
    return made


def _copy_month(engine: Engine, month: datetime, slots: list[Slot]) -> int:
    """Fill a month's table while nothing knows of it, then index and attach it."""
    name = f"observations_{month:%Y_%m}"
    after = (month + timedelta(days=32)).replace(day=1)
    n_rows = 0
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE TABLE {name} (LIKE observations INCLUDING ALL EXCLUDING INDEXES,"
                f" CONSTRAINT of_month CHECK (ts >= '{month}' AND ts < '{after}'))"
            )
        )
        driver = connection.connection.dbapi_connection
        assert driver is not None
        cursor = driver.cursor()
        statement = COPY.replace("COPY observations ", f"COPY {name} ")
        # Into a table of the same transaction: nothing of it is logged, or to be frozen later.
        statement = statement.replace("(FORMAT binary)", "(FORMAT binary, FREEZE)")
        for slot in slots:
            cursor.copy_expert(statement, io.BytesIO(_moved(slot)), size=1 << 20)
            n_rows += len(slot.block.packed)
        cursor.close()
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL maintenance_work_mem = '768MB'"))
        connection.execute(text(f"ALTER TABLE {name} ADD PRIMARY KEY (channel_id, ts, track_id)"))
        bounds = f"FOR VALUES FROM ('{month}') TO ('{after}')"
        connection.execute(text(f"ALTER TABLE observations ATTACH PARTITION {name} {bounds}"))
        connection.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT of_month"))
    return n_rows


# What is not moved in time or number is as it was. As on air, rows lie in order of time.
_MOVED: Final = {
    "broadcasts": {"id": "g.new", "title": "'Show ' || g.new"},
    "seconds": {"broadcast_id": "g.new"},
    "emotion_minutes": {"broadcast_id": "g.new"},
    "segments": {"broadcast_id": "g.new"},
    "face_tracks": {
        "id": f"g.new * {TRACKS_PER_BROADCAST}::bigint + t.track_no",
        "broadcast_id": "g.new",
    },
}
_TIME: Final = {
    "broadcasts": "started_at",
    "seconds": "second",
    "emotion_minutes": "minute",
    "segments": "started_at",
    "face_tracks": "first_ts",
}


def _copy_the_rest(connection: Connection, slot: Slot) -> None:
    """Copy a slot's broadcasts, and what was computed from their rows."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text("SET LOCAL work_mem = '256MB'"))
    for table, moved in _MOVED.items():
        wanted = {}
        for column in Base.metadata.tables[table].columns:
            is_time = isinstance(column.type, DateTime)
            same = f"t.{column.name} + :shift" if is_time else f"t.{column.name}"
            wanted[column.name] = moved.get(column.name, same)
        key = "id" if table == "broadcasts" else "broadcast_id"
        connection.execute(
            text(
                f"INSERT INTO {table} ({', '.join(wanted)}) SELECT {', '.join(wanted.values())}"
                " FROM unnest(CAST(:new AS integer[]), CAST(:old AS integer[])) AS g (new, old)"
                f" JOIN {table} t ON t.{key} = g.old"
                f" WHERE t.{_TIME[table]} >= :start AND t.{_TIME[table]} < :end"
                f" ORDER BY t.{_TIME[table]}, g.new"
            ),
            {
                "new": slot.numbers.tolist(),
                "old": list(slot.block.broadcasts),
                "shift": slot.shift,
                "start": slot.block.start,
                "end": slot.block.start + timedelta(seconds=SHOW_S),
            },
        )
