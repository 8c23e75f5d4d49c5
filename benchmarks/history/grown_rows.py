"""Generates a history of 100 M rows in minutes, for `benchmarks.history.grown`.

Thirty hours of shows are generated and stored with the statements of the write path, with their
seconds and minutes (`benchmarks.history.grown_blocks`). All other shows are copies with
other times and ids, so their computed rows are copies too. Raw rows are copied
into months without an index, in the order of ten channels on air at once, and indexed afterwards.
"""

import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, DateTime, Engine, text

from benchmarks.history.grown_blocks import SHOW_S, Block
from db.tables.observations import Base
from db.tables.shows import TRACKS_PER_BROADCAST
from db.writing.copying import COPY, HEADER, TRAILER

_log = logging.getLogger(__name__)

YEAR: Final = datetime(2025, 1, 1, tzinfo=UTC)
COPIED: Final = ("seconds", "emotion_minutes", "segments", "face_tracks")

# COPY's format of a row: a count of 2 bytes, then each field after its length.
_FIELDS: Final = {"ts": (6, ">i8"), "track_id": (18, ">i8")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A copy of a block's shows at another time; first: the first of their ids."""

    start: datetime
    block: Block
    first: int

    @property
    def shift(self) -> timedelta:
        """Offset from the block's own time."""
        return self.start - self.block.start

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The ids of its shows."""
        return np.arange(self.first, self.first + len(self.block.broadcasts))


def _moved(slot: Slot) -> bytes:
    """Return a slot's rows in COPY's format."""
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


@contextmanager
def without_indexes(engine: Engine, tables: tuple[str, ...]) -> Iterator[None]:
    """Drop the tables' indexes, and create them again at the end."""
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
    """Add shows over a year up to this number of rows; return the number of shows.

    Indexes of the small tables are created at the end, those of a month with the month.
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
    """Fill a month's detached table, then index and attach it."""
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
        # A table of the same transaction needs no WAL and no later freezing.
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


# All other fields are unchanged. Rows are in order of time, as on air.
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
    """Copy a slot's broadcasts and their computed rows."""
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
