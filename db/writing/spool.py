"""Writes that fail for now wait on disk, in order, and are retried: also after a restart.

A folder of numbered files, each a write of one broadcast: a segment with its observations, a
segment that failed, a gap. Every one of them may be done twice, so a file is deleted only after
its write is committed. One that can't be read, or that the database will never take, is set aside
for a person to look at: what comes after it is not held up. One writer a folder at a time, as for
the broadcast itself.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseBusy, DatabaseRefused, DatabaseUnreachable
from db.session import explain
from db.writing.covering import parts_of
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow
from db.writing.writes import fail_segment, record_gap, record_segment

_log = logging.getLogger(__name__)

PASSING: Final = (DatabaseUnreachable, DatabaseBusy, DatabaseRefused)
"""Errors that make a write wait: the database's state causes them, not the write."""

_TIMES: Final = ("ts", "shots", "seen_before")
_COLUMNS: Final = (*_TIMES, "track", "boxes", "scores", "probs", "smoothed", "affect", "pose")
_NAME: Final = re.compile(r"\d{10}\.(npz|damaged)")
_WAITS: Final = ".npz"
_ASIDE: Final = ".damaged"


class Spool:
    """Writes that wait in a folder; it is made when the first one has to."""

    def __init__(self, directory: Path) -> None:
        """Look at nothing yet."""
        self.directory = directory
        self._done: set[str] = set()

    def waiting(self) -> list[Path]:
        """Return the files that wait, in order."""
        return [path for path in self._files(_WAITS) if path.name not in self._done]

    def set_aside(self) -> list[Path]:
        """Return the files that hold no write that can be done, and are left to a person."""
        return self._files(_ASIDE)

    def _files(self, suffix: str) -> list[Path]:
        try:
            return [path for path in self._listed() if path.suffix == suffix]
        except FileNotFoundError:
            return []
        except OSError as e:
            _log.warning("the writes that wait in %s can't be listed: %s", self.directory, e)
            return []

    def _listed(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def put_segment(self, segment: SegmentRow, observations: ObservationRows) -> None:
        """Keep an analysed segment."""
        given = {name: getattr(observations, name) for name in _COLUMNS}
        arrays = {name: array for name, array in given.items() if array is not None}
        # numpy's own form of a time is read without pickle too, but not by every version alike.
        for name in _TIMES:
            arrays[name] = arrays[name].astype(np.int64)
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
        n_written = 0
        for path in self.waiting():
            try:
                _write(engine, path)
                n_written += 1
                self._done.add(path.name)  # also where the disk does not let it be deleted
                path.unlink()
                self._done.discard(path.name)
            except _Damaged as e:
                aside = path.with_suffix(_ASIDE)
                _log.error("%s is no valid write, and is set aside as %s: %s", path, aside.name, e)
                self._done.add(path.name)
                with suppress(OSError):
                    path.rename(aside)
            except OSError as e:
                _log.error("%s could not be written yet, and waits: %s", path, e)
        return n_written

    def _put(self, said: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Where the folder can't be listed now, no number is known to be free: then this raises.
        number = max((int(path.stem) + 1 for path in self._listed()), default=0)
        header = json.dumps(said, default=datetime.isoformat, allow_nan=False)
        path = self.directory / f"{number:010}.npz"
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.savez(file, said=np.frombuffer(header.encode(), dtype=np.uint8), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with suppress(OSError):
                part.unlink()  # of a disk that is full
            raise
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing
                raise
        finally:
            os.close(folder)


class _Damaged(Exception):
    """A file that holds no write that can ever be done."""


def _write(engine: Engine, path: Path) -> None:
    """Do a file's write. Raise one of PASSING, OSError where the disk fails, or _Damaged."""
    try:
        write = _read(path)
    except OSError:
        raise
    except Exception as e:  # what a file of any bytes whatever raises in numpy, zipfile and here
        raise _Damaged(f"it can't be read ({type(e).__name__}: {e})") from e
    try:
        write(engine)
    except PASSING:
        raise
    except DBAPIError as e:
        raise _Damaged(f"the database does not take it ({e.orig})".replace("\n", " ")) from e
    except Exception as e:  # a value that no row can have
        raise _Damaged(f"it can't be written ({e})".replace("\n", " ")) from e


def _read(path: Path) -> Callable[[Engine], object]:
    """Return what a file says to do; whatever it holds, no code of it is run."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
        said = json.loads(found["said"].tobytes().decode())
        arrays = {name: found[name] for name in _COLUMNS if name in found}
    kind = said.pop("kind")
    for name in ("started_at", "ended_at"):
        if name in said:
            said[name] = datetime.fromisoformat(said[name])
    if kind == "gap":
        return lambda engine: commit(engine, lambda connection: record_gap(connection, **said))
    error = said.pop("error", "")
    segment = SegmentRow(**said)
    if kind == "segment":
        for name in _TIMES:
            if name in arrays:  # shots: not in what an older version left
                arrays[name] = arrays[name].astype("datetime64[us]")
        rows = ObservationRows(**arrays)
        return lambda engine: _replace_uncovered(engine, segment, rows)
    if kind == "recorded":
        return lambda engine: commit(engine, lambda connection: record_segment(connection, segment))
    if kind == "failure":
        return lambda engine: commit(
            engine, lambda connection: fail_segment(connection, segment, error)
        )
    raise ValueError(f"it says {kind!r}")


def _replace_uncovered(engine: Engine, segment: SegmentRow, rows: ObservationRows) -> None:
    """Store an analysed segment, without what another machine has stored of its time meanwhile."""
    parts: list[SegmentRow] = []
    commit(engine, lambda connection: parts.extend(parts_of(connection, segment)))
    for part in parts:
        replace_segment(engine, part, rows)


def commit(engine: Engine, write: Callable[[Connection], None]) -> None:
    """Do a small write in a transaction of its own. Raise one of PASSING if it can't be done."""
    try:
        with engine.begin() as connection:
            write(connection)
    except DBAPIError as error:
        if (known := explain(engine.url, error)) is not None:
            raise known from error
        raise
