"""A spool of failed writes on disk, retried in order, also after a restart.

A folder of numbered files, each a write of one broadcast: a segment with its observations, a
failed segment, a gap. The writes are idempotent, and a file is deleted only after
its write is committed. A damaged file, or one that the database rejects, is quarantined
for inspection and does not block later ones. A folder has one writer at a time, as the
broadcast itself.
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
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts
from db.writing.writes import fail_segment, record_gap, record_segment

_log = logging.getLogger(__name__)

PASSING: Final = (DatabaseUnreachable, DatabaseBusy, DatabaseRefused)
"""Transient errors, after which a write stays in the spool."""

_TIMES: Final = ("ts", "shots", "seen_before")
_COLUMNS: Final = (*_TIMES, "track", "boxes", "scores", "probs", "smoothed", "affect", "pose")
_NAME: Final = re.compile(r"\d{10}\.(npz|damaged)")
_WAITS: Final = ".npz"
_ASIDE: Final = ".damaged"


class Spool:
    """Waiting writes in a folder, which is created with the first one."""

    def __init__(self, directory: Path) -> None:
        """Store the path, without reading the folder."""
        self.directory = directory
        self._done: set[str] = set()

    def waiting(self) -> list[Path]:
        """Return the waiting files, in order."""
        return [path for path in self._files(_WAITS) if path.name not in self._done]

    def set_aside(self) -> list[Path]:
        """Return the quarantined files, whose writes are impossible."""
        return self._files(_ASIDE)

    def remove_unfinished(self) -> None:
        """Delete what a process has left that died while it wrote; to be called without another."""
        with suppress(OSError):
            for part in self.directory.glob("*.part"):
                part.unlink(missing_ok=True)

    def _files(self, suffix: str) -> list[Path]:
        try:
            return [path for path in self._listed() if path.suffix == suffix]
        except FileNotFoundError:
            return []
        except OSError as e:
            _log.warning("can't list the waiting writes in %s: %s", self.directory, e)
            return []

    def _listed(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def put_segment(self, segment: SegmentRow, observations: ObservationRows) -> None:
        """Add an analysed segment."""
        given = {name: getattr(observations, name) for name in _COLUMNS}
        arrays = {name: array for name, array in given.items() if array is not None}
        # As integers: numpy's file format of datetime64 differs between versions.
        for name in _TIMES:
            arrays[name] = arrays[name].astype(np.int64)
        self._put({"kind": "segment", **asdict(segment)}, arrays)

    def put_recorded(self, segment: SegmentRow) -> None:
        """Add a segment that is on disk and not analysed."""
        self._put({"kind": "recorded", **asdict(segment)}, {})

    def put_failure(self, segment: SegmentRow, error: str) -> None:
        """Add a failed analysis of a segment."""
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
        """Add a gap."""
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
        """Write the waiting files, oldest first; return the number of writes.

        Raise one of PASSING at the first transient failure; that write and the rest stay waiting.
        """
        n_written = 0
        for path in self.waiting():
            try:
                _write(engine, path)
                n_written += 1
                self._done.add(path.name)  # in case the file cannot be deleted
                path.unlink()
                self._done.discard(path.name)
            except _Damaged as e:
                aside = path.with_suffix(_ASIDE)
                _log.error("%s is not a valid write, quarantined as %s: %s", path, aside.name, e)
                self._done.add(path.name)
                with suppress(OSError):
                    path.rename(aside)
            except OSError as e:
                _log.error("%s could not be written, will retry: %s", path, e)
        return n_written

    def _put(self, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Raises if the folder can't be listed, because then no number is known to be free.
        number = max((int(path.stem) + 1 for path in self._listed()), default=0)
        header = json.dumps(fields, default=datetime.isoformat, allow_nan=False)
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
                part.unlink()  # frees space on a full disk
            raise
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by some file systems
                raise
        finally:
            os.close(folder)


class _Damaged(Exception):
    """A file whose write is impossible."""


def _write(engine: Engine, path: Path) -> None:
    """Execute a file's write. Raise one of PASSING, OSError for a disk error, or _Damaged."""
    try:
        write = _read(path)
    except OSError:
        raise
    except Exception as e:  # arbitrary bytes raise many errors in numpy, zipfile and here
        raise _Damaged(f"it can't be read ({type(e).__name__}: {e})") from e
    try:
        write(engine)
    except PASSING:
        raise
    except DBAPIError as e:
        raise _Damaged(f"the database rejects it ({e.orig})".replace("\n", " ")) from e
    except Exception as e:  # an invalid value
        raise _Damaged(f"it can't be written ({e})".replace("\n", " ")) from e


def _read(path: Path) -> Callable[[Engine], object]:
    """Return the write of a file; never runs code from it."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
        fields = json.loads(found["said"].tobytes().decode())
        arrays = {name: found[name] for name in _COLUMNS if name in found}
    kind = fields.pop("kind")
    for name in ("started_at", "ended_at"):
        if name in fields:
            fields[name] = datetime.fromisoformat(fields[name])
    if kind == "gap":
        return lambda engine: commit(engine, lambda connection: record_gap(connection, **fields))
    error = fields.pop("error", "")
    segment = SegmentRow(**fields)
    if kind == "segment":
        for name in _TIMES:
            if name in arrays:  # files of older versions have no shots
                arrays[name] = arrays[name].astype("datetime64[us]")
        rows = ObservationRows(**arrays)
        return lambda engine: replace_uncovered(engine, segment, rows)
    if kind == "recorded":
        return lambda engine: commit(engine, lambda connection: record_segment(connection, segment))
    if kind == "failure":
        return lambda engine: commit(
            engine, lambda connection: fail_segment(connection, segment, error)
        )
    raise ValueError(f"unknown kind {kind!r}")


def replace_uncovered(
    engine: Engine, segment: SegmentRow, rows: ObservationRows
) -> list[StoredCounts]:
    """Store an analysed segment, except the parts that another machine has stored since.

    Return the counts of each stored part. Raise as replace_segment.
    """
    parts: list[SegmentRow] = []
    commit(engine, lambda connection: parts.extend(parts_of(connection, segment)))
    return [replace_segment(engine, part, rows) for part in parts]


def commit(engine: Engine, write: Callable[[Connection], None]) -> None:
    """Run a small write in its own transaction. Raise one of PASSING for a transient failure."""
    try:
        with engine.begin() as connection:
            write(connection)
    except DBAPIError as error:
        if (known := explain(engine.url, error)) is not None:
            raise known from error
        raise
