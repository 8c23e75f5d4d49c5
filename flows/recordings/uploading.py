"""Copies finished recorded files to the object store, and notes the copies in their rows.

The folders are the queue: files without a copy in their rows wait there, and retention keeps them.
So a store that fails, is slow or full only delays copies, and a new process continues where another
died. One process per machine does it, apart from analysis.
"""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseError
from db.machines import installation, note_uploads, summary_of_copies
from db.objects import copied, record_copy
from db.reading import recordings as rows
from flows.capture.recorded.audio import FOLDER
from flows.capture.waits import background_thread
from flows.errors import UsageError
from flows.objects.configured import objects_of
from flows.objects.errors import StoreError
from flows.recordings.inventory import Folder, Inventory
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.objects.store import Objects

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
AT_ONCE: Final = 4
"""Files that are copied in parallel; bounds the memory that they take."""

BATCH: Final = 64
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0
NOTE_EVERY_S: Final = 10.0
AUDIO_WAIT_S: Final = 60.0
"""Most seconds that audio may come later than its file of pictures, while it is recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Behind:
    """The backlog of copies: files, their bytes, when the oldest was finished, and why."""

    files: int = 0
    n_bytes: int = 0
    since: datetime | None = None
    error: str | None = None

    def summary(self) -> str:
        """Return it as a line of text."""
        return summary_of_copies(self.files, self.n_bytes, self.since, self.error)


@dataclass(kw_only=True)
class Uploads:
    """Copies what is recorded below a folder."""

    engine: Engine
    directory: Path
    objects: "Objects"
    machine: str
    behind: Behind = field(default_factory=Behind)
    _inventory: Inventory = field(init=False)
    _copied: dict[Path, set[str]] = field(default_factory=dict, init=False)
    _unnoted: dict[tuple[Path, str], tuple[str, int, str]] = field(default_factory=dict, init=False)
    _claimed: bool = field(default=False, init=False)
    _noted_at: float = field(default=0.0, init=False)
    _last_error: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Look at nothing yet."""
        self._inventory = Inventory(self.directory)

    def step(self) -> int:
        """Copy some of the waiting files, oldest first; return how many.

        Errors are in `behind`, logged once, and never raised.
        """
        error: str | None = None
        n_done = 0
        try:
            self._inventory.look()
            waiting = self._waiting()
            if waiting and not self._claimed:
                with self.engine.connect() as connection:
                    mine = installation(connection)
                self.objects.claim(mine)
                self._claimed = True
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as pool:
                for done in [pool.submit(self._copy, *each[1:]) for each in waiting[:BATCH]]:
                    try:
                        done.result()
                        n_done += 1
                    except (StoreError, OSError) as e:
                        error = error or str(e)
            self._note_copies()
        except (DatabaseError, DBAPIError) as e:
            error = f"could not read from the database what is copied: {str(e).splitlines()[0]}"
        except (StoreError, OSError) as e:
            error = str(e)
        self._measure(error)
        return n_done

    def _waiting(self) -> list[tuple[float, Folder, str]]:
        """Return what has no copy, oldest first."""
        found: list[tuple[float, Folder, str]] = []
        for path, folder in self._inventory.folders.items():
            if path not in self._copied:
                with self.engine.connect() as connection:
                    known = rows.broadcasts(connection, [folder.broadcast]).get(folder.broadcast)
                    if known is None or not folder.is_of(known):
                        continue  # another database's: it is checked again
                    self._copied[path] = copied(connection, folder.broadcast)
            done = self._copied[path]
            found += [
                (modified, folder, name)
                for name, (modified, _) in folder.files.items()
                if name not in done
                and (path, name) not in self._unnoted
                and _has_its_audio(folder, name, modified)
            ]
        return sorted(found, key=lambda each: each[0])

    def _copy(self, folder: Folder, name: str) -> None:
        key = f"{folder.path.parent.name}/{folder.path.name}/{name}"
        with suppress(FileNotFoundError):  # deleted by hand meanwhile
            n_bytes = 0
            for each in folder.audio_of.get(name.partition(".")[0], []):
                beside = f"{key.rpartition('/')[0]}/{FOLDER}/{each.path.name}"
                n_bytes += self.objects.put(beside, each.path)[0]
            size, sha256 = self.objects.put(key, folder.path / name)
            self._unnoted[folder.path, name] = key, size + n_bytes, sha256

    def _note_copies(self) -> None:
        """Note the copies in the files' rows; of a file without a row yet, later."""
        if not self._unnoted:
            return
        noted: list[tuple[Path, str]] = []
        with self.engine.begin() as connection:
            for (path, name), (key, size, sha256) in list(self._unnoted.items()):
                folder = self._inventory.folders.get(path)
                if folder is None or name not in folder.files:
                    noted.append((path, name))  # it is gone
                elif record_copy(
                    connection, folder.broadcast, name, key=key, size=size, sha256=sha256
                ):
                    noted.append((path, name))
        for path, name in noted:
            del self._unnoted[path, name]
            self._copied.setdefault(path, set()).add(name)

    def _measure(self, error: str | None) -> None:
        left = [
            folder.files[name]
            for path, folder in self._inventory.folders.items()
            if path in self._copied
            for name in folder.files
            if name not in self._copied[path] and (path, name) not in self._unnoted
        ]
        oldest = min((modified for modified, _ in left), default=None)
        self.behind = Behind(
            files=len(left),
            n_bytes=sum(size for _, size in left),
            since=datetime.fromtimestamp(oldest, UTC) if oldest is not None else None,
            error=error,
        )
        if error != self._last_error:
            if error is not None:
                _log.warning("%s; recording continues", self.behind.summary())
            elif self._last_error is not None:
                _log.info("recordings are copied again: %s", self.behind.summary())
            self._last_error = error
        if time.monotonic() - self._noted_at > NOTE_EVERY_S or not self._noted_at:
            self._noted_at = time.monotonic()
            with suppress(DatabaseError, DBAPIError), self.engine.begin() as connection:
                note_uploads(
                    connection,
                    self.machine,
                    files=self.behind.files,
                    n_bytes=self.behind.n_bytes,
                    since=self.behind.since,
                    error=error,
                )


def _has_its_audio(folder: Folder, name: str, modified: float) -> bool:
    """Return whether the audio of a file of pictures is there, or is no longer waited for.

    Audio is copied first, so a row with a copy means that both have one.
    """
    stem = name.partition(".")[0]
    after = not folder.has_audio or any(each > stem for each in folder.audio_of)
    return after or time.time() - modified > AUDIO_WAIT_S or folder.has_all_audio


def uploads_of(settings: Settings, engine: Engine) -> Uploads | None:
    """Return what copies this machine's recordings; None where no store is set.

    Raises UsageError for an invalid URL.
    """
    objects = objects_of(settings)
    if objects is None:
        return None
    return Uploads(
        engine=engine,
        directory=settings.recordings_dir,
        objects=objects,
        machine=settings.machine_name,
    )


def copying(settings: Settings, engine: Engine) -> AbstractContextManager[None]:
    """Return `uploading` by the settings; an invalid store is only logged."""
    try:
        return uploading(uploads_of(settings, engine))
    except UsageError as e:
        _log.error("%s; recording continues, but nothing is copied", e)
        return nullcontext()


@contextmanager
def uploading(uploads: Uploads | None) -> Iterator[None]:
    """Copy what is recorded, beside what the caller does, unless another process here does it."""
    if uploads is None:
        yield
        return
    stop = threading.Event()

    def run() -> None:
        lock = FileLock(uploads.directory / ".upload.lock", blocking=False)
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                uploads.directory.mkdir(parents=True, exist_ok=True)
                with lock:
                    while not stop.is_set():
                        uploads.step()
                        if uploads.behind.error is not None:
                            stop.wait(pause_s)
                            pause_s = min(2 * pause_s, MAX_PAUSE_S)
                        else:
                            pause_s = FIRST_PAUSE_S
                            stop.wait(LOOK_S)
            except Timeout:
                stop.wait(FIRST_PAUSE_S)
            except Exception:  # noqa: BLE001 - a bug in copying must not end the show
                _log.exception("recordings are not copied for now")
                stop.wait(MAX_PAUSE_S)

    with background_thread(run, stop, name="uploads", end_s=FIRST_PAUSE_S):
        yield
