"""Retention: the oldest files are deleted when too old, too many, or the disk is nearly full.

If there are too many, the oldest files of the largest show go first.

Only what is neither kept nor needed is deleted: files whose analysis is in the database, and files
of a broadcast that is over which nothing refers to. Files that were not analysed stay at any age,
and files that a user keeps (`showmood keep`) until they are released.

A folder is read again only when it has changed, so a pass costs little. A file is renamed, its row
updated, then it is deleted; after a crash the next pass completes that. One process at a time does
it.
"""

import heapq
import logging
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseError
from db.reading import recordings as rows
from db.session import explain
from flows.capture.recorded import playback_playlists
from flows.capture.waits import background_thread
from flows.recordings.deletable import OVERDUE, Claims
from flows.recordings.inventory import Folder, Inventory, by_show
from flows.settings import Settings

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

PASS_S: Final = 60.0
LOOK_S: Final = 5.0
"""Seconds between two passes, and between two checks of the free disk space."""

_BATCH: Final = 500
_STOP_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of recordings; None is without limit. copied_only: files without a copy stay.

    free_bytes: below this much free disk recording pauses; room is made a quarter before that.
    """

    days: float | None
    total_bytes: int | None
    free_bytes: int
    copied_only: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits of the settings."""
        days = [settings.keep_recordings_days]
        if settings.recordings_store:
            days.append(settings.keep_local_days)
        return cls(
            days=min(filter(None, days), default=None),
            copied_only=settings.recordings_store is not None,
            total_bytes=round(settings.keep_recordings_gb * (1 << 30)) or None,
            free_bytes=settings.min_free_disk_mb << 20,
        )

    @property
    def wanted_free_bytes(self) -> int:
        """Return how much of the disk is kept free by deleting."""
        return self.free_bytes + self.free_bytes // 4


@dataclass(kw_only=True, slots=True)
class Rolled:
    """The result of a pass. kept: files that were due, and wait for analysis or are kept."""

    files: int = 0
    n_bytes: int = 0
    folders: int = 0
    kept: set[Path] = field(default_factory=set)
    left_files: int = 0
    left_bytes: int = 0

    @property
    def kept_files(self) -> int:
        """How many were kept."""
        return len(self.kept)

    def summary(self) -> str:
        """Return it as a line of text."""
        text = f"{self.files} recorded files ({self.n_bytes / 1e6:.1f} MB) deleted"
        text += f", {self.left_files} ({self.left_bytes / 1e9:.2f} GB) are left"
        waiting = f", {self.kept_files} due ones wait for their analysis, or are kept"
        return text + (waiting if self.kept_files else "")


@dataclass(kw_only=True, slots=True)
class Recordings:
    """Keeps the recordings below a folder within limits; remembers what it has seen.

    stopping: once it is set, a pass ends early; the next one, of any process, finishes it.
    """

    engine: Engine
    directory: Path
    limits: Limits
    log: Log
    stopping: threading.Event = field(default_factory=threading.Event)
    _inventory: Inventory = field(init=False)
    _warned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Look at nothing yet."""
        self._inventory = Inventory(self.directory)

    def can_make_room(self) -> bool:
        """Return whether the disk is short of space and the last pass found files to delete."""
        return not self._warned and self.directory.is_dir() and self._missing_bytes() > 0

    def run(self, now: datetime) -> Rolled | None:
        """Do one pass; None if another process does one, or there are no recordings.

        now: aware. Raises one of DatabaseError (no file is deleted whose row does not say so),
        OSError.
        """
        if not self.directory.is_dir():
            return None
        try:
            with FileLock(self.directory / ".retention.lock", blocking=False):
                return self._pass(now)
        except Timeout:
            return None
        except DBAPIError as error:
            if (known := explain(self.engine.url, error)) is not None:
                raise known from error
            raise

    def _pass(self, now: datetime) -> Rolled:
        rolled = Rolled()
        self._inventory.look()
        for folder in self._inventory.folders.values():
            if folder.gone:  # a crash came between
                self._forget(folder, list(folder.gone))
        short = self._missing_bytes()
        if short:
            self.log.warning(
                "%s: %d MB of disk are free, and recording pauses below %d MB: "
                "the oldest recordings are deleted to make room",
                self.directory,
                (self.limits.wanted_free_bytes - short) >> 20,
                self.limits.free_bytes >> 20,
            )
        claims = Claims(
            engine=self.engine,
            inventory=self._inventory,
            now=now,
            copied_only=self.limits.copied_only,
        )
        self._delete_due(claims, short, rolled)
        self._remove_empty(now, rolled)
        rolled.left_files, rolled.left_bytes = self._inventory.n_files, self._inventory.n_bytes
        self._complain(rolled)
        return rolled

    def _delete_due(self, claims: Claims, short: int, rolled: Rolled) -> None:
        cut = float("-inf")
        if self.limits.days is not None:
            cut = (claims.now - timedelta(days=self.limits.days)).timestamp()
        folders = list(self._inventory.folders.values())
        if min((folder.oldest for folder in folders), default=cut) < cut:
            oldest = heapq.merge(*(folder.in_order() for folder in folders))
            old = takewhile(lambda each: each[0] < cut, oldest)
            short -= self._delete_those(old, claims, rolled)
        total = self.limits.total_bytes
        over = 0 if total is None else self._inventory.n_bytes - total
        if over > 0 or short > 0:
            share = None if short > 0 or total is None else total
            of_the_largest = by_show(folders, within=share)
            self._delete_those(of_the_largest, claims, rolled, n_bytes=max(over, short))

    def _delete_those(
        self,
        files: Iterator[tuple[float, Path, str]],
        claims: Claims,
        rolled: Rolled,
        *,
        n_bytes: int | None = None,
    ) -> int:
        """Delete files that are safe to delete, up to `n_bytes`; return how many bytes."""
        done = 0
        while not self.stopping.is_set() and (batch := list(islice(files, _BATCH))):
            may_go = claims.unclaimed([(each[1], each[2]) for each in batch])
            chosen: dict[Path, list[str]] = defaultdict(list)
            for _, path, name in batch:
                if n_bytes is not None and done >= n_bytes:
                    break
                if name not in may_go[path]:
                    rolled.kept.add(path / name)
                    continue
                size = self._inventory.folders[path].files[name][1]
                chosen[path].append(name)
                done += size
                rolled.files, rolled.n_bytes = rolled.files + 1, rolled.n_bytes + size
            for path, names in chosen.items():
                if self.stopping.is_set():
                    break
                folder = self._inventory.folders[path]
                self._delete(folder, names, claims.of(folder).playlist)
            if n_bytes is not None and done >= n_bytes:
                break
        return done

    def _delete(self, folder: Folder, names: list[str], current: Path | None) -> None:
        # Out of the playlists first: they list only files that exist.
        playback_playlists.trim(folder.path, set(names), current=current)
        for name in names:
            folder.set_aside(name)
        self._forget(folder, names)

    def _forget(self, folder: Folder, names: list[str]) -> None:
        with self.engine.begin() as connection:
            rows.forget(connection, folder.broadcast, names)
        for name in names:
            folder.delete(name)

    def _remove_empty(self, now: datetime, rolled: Rolled) -> None:
        claims = Claims(engine=self.engine, inventory=self._inventory, now=now)
        for folder in list(self._inventory.folders.values()):
            if folder.files or folder.gone:
                continue
            standing = claims.of(folder)
            idle = now.timestamp() - folder.path.stat().st_mtime > OVERDUE.total_seconds()
            if standing.over and (standing.known or idle) and folder.remove():
                rolled.folders += 1
                del self._inventory.folders[folder.path]

    def _missing_bytes(self) -> int:
        if not self.limits.free_bytes:
            return 0
        free = shutil.disk_usage(self.directory).free
        return max(0, self.limits.wanted_free_bytes - free)

    def _complain(self, rolled: Rolled) -> None:
        """Warn once if the limits are exceeded and nothing can be deleted."""
        total = self.limits.total_bytes
        over = total is not None and rolled.left_bytes > total
        if not (over or self._missing_bytes()):
            self._warned = False
        elif not self._warned:
            self._warned = True
            self.log.warning(
                "%s: the recordings that are left exceed their limit (%.2f GB), and none of them "
                "can be deleted: those listed as live, and %d files kept or not analysed",
                self.directory,
                rolled.left_bytes / 1e9,
                rolled.kept_files,
            )


@contextmanager
def rolling(retention: Recordings) -> Iterator[None]:
    """Keep recordings within their limits beside what the caller does, about once a minute.

    Its end does not wait for a pass that a disk or a database delays.
    """
    stop = retention.stopping

    def keep() -> None:
        due_s = 0.0
        while not stop.is_set():
            try:
                if due_s <= 0 or retention.can_make_room():
                    due_s = PASS_S
                    rolled = retention.run(datetime.now().astimezone())
                    if rolled is not None and rolled.files:
                        retention.log.info("%s", rolled.summary())
            except (DatabaseError, DBAPIError, OSError) as e:
                retention.log.warning("old recordings could not be deleted now: %s", e)
            except Exception:  # else nothing makes room until the next start
                retention.log.exception("an internal error: old recordings are not deleted now")
            stop.wait(LOOK_S)
            due_s -= LOOK_S

    with background_thread(keep, stop, name="retention", end_s=_STOP_S):
        yield
