"""What can't be written yet waits on disk, in order, and is written later: also after a restart.

A folder of numbered files, each a write of one broadcast: a segment with its observations, a
segment that failed, a gap. Every one of them may be done twice, so a file is deleted only after
its write is committed. One writer a folder at a time, as for the broadcast itself.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseBusy, DatabaseRefused, DatabaseUnreachable
from db.replacing import replace_segment
from db.rows import ObservationRows, SegmentRow
from db.session import explain
from db.writes import fail_segment, record_gap, record_segment

PASSING: Final = (DatabaseUnreachable, DatabaseBusy, DatabaseRefused)
"""What keeps a write waiting: it is the database's state, not the write's."""

_COLUMNS: Final = ("ts", "track", "boxes", "scores", "probs", "smoothed", "affect")
_NAME: Final = re.compile(r"\d{10}\.npz")


class Spool:
    """Writes that wait in a folder; it is made when the first one has to."""

    def __init__(self, directory: Path) -> None:
        """Look at nothing yet."""
        self.directory = directory

    def waiting(self) -> list[Path]:
        """Return the files that wait, in order."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def put_segment(self, segment: SegmentRow, observations: ObservationRows) -> None:
        """Keep an analysed segment."""
        given = {name: getattr(observations, name) for name in _COLUMNS}
        arrays = {name: array for name, array in given.items() if array is not None}
        # numpy's own form of a time is read without pickle too, but not by every version alike.
        arrays["ts"] = observations.ts.astype(np.int64)
        self._put({"kind": "segment", **asdict(segment)}, arrays)

    def put_recorded(self, segment: SegmentRow) -> None:
        """Keep that a segment is on disk and not analysed."""
        self._put({"kind": "recorded", **asdict(segment)}, {})

    def put_failure(self, segment: SegmentRow, error: str) -> None:
        """Keep why a segment could not be analysed."""
        self._put({"kind": "failure", **asdict(segment), "error": error}, {})

    def put_gap(
        self,
        *,
        channel_id: int,
        broadcast_id: int,
        started_at: datetime,
        ended_at: datetime,
        why: str,
    ) -> None:
        """Keep a stretch that was not recorded."""
        self._put(
            {
                "kind": "gap",
                "channel_id": channel_id,
                "broadcast_id": broadcast_id,
                "started_at": started_at,
                "ended_at": ended_at,
                "why": why,
            },
            {},
        )

    def write(self, engine: Engine) -> int:
        """Write what waits, oldest first; return how many writes that were.

        Raise one of PASSING as soon as one can't be written; it and the rest go on waiting.
        """
        paths = self.waiting()
        for path in paths:
            _write(engine, path)
            path.unlink()
        return len(paths)

    def _put(self, said: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        waiting = self.waiting()
        number = int(waiting[-1].stem) + 1 if waiting else 0
        header = json.dumps(said, default=datetime.isoformat, allow_nan=False)
        path = self.directory / f"{number:010}.npz"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, said=np.frombuffer(header.encode(), dtype=np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


def _write(engine: Engine, path: Path) -> None:
    with np.load(path, allow_pickle=False) as found:
        said = json.loads(found["said"].tobytes().decode())
        arrays = {name: found[name] for name in _COLUMNS if name in found}
    kind = said.pop("kind")
    for name in ("started_at", "ended_at"):
        if name in said:
            said[name] = datetime.fromisoformat(said[name])
    if kind == "segment":
        arrays["ts"] = arrays["ts"].astype("datetime64[us]")
        replace_segment(engine, SegmentRow(**said), ObservationRows(**arrays))
    elif kind == "recorded":
        commit(engine, lambda connection: record_segment(connection, SegmentRow(**said)))
    elif kind == "failure":
        error = said.pop("error")
        commit(engine, lambda connection: fail_segment(connection, SegmentRow(**said), error))
    else:
        commit(engine, lambda connection: record_gap(connection, **said))


def commit(engine: Engine, write: Callable[[Connection], None]) -> None:
    """Do a small write in a transaction of its own. Raise one of PASSING if it can't be done."""
    try:
        with engine.begin() as connection:
            write(connection)
    except DBAPIError as error:
        if (known := explain(engine.url, error)) is not None:
            raise known from error
        raise
