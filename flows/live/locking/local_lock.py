"""A lock file: one watcher of a channel on this machine, also while the database is away.

The database's advisory lock ends with its session: when Postgres is killed, all are free before
their holders reconnect. Until then another process, such as the second of a run that was taken for
dead, would continue a broadcast that is still being written.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.channel_lock import ChannelLock, channel_lock
from db.errors import ChannelBusy

_log = logging.getLogger(__name__)

_MAX_NAME_BYTES: Final = 200


@contextmanager
def alone_here(recordings_dir: Path, slug: str, holder: str) -> Iterator[None]:
    """Hold a channel's lock file while the context lasts; the kernel frees it when we die.

    holder: the name in the file. Raises db.errors.ChannelBusy with the holder's name. If the disk
    does not allow a lock file, that is only a warning: there is still the database's lock.
    """
    place = recordings_dir / f".{slug}.watched"
    fd = _opened(place)
    if fd is None:
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = os.pread(fd, _MAX_NAME_BYTES, 0).decode(errors="replace").strip()
            raise ChannelBusy(
                f"channel '{slug}' is already being watched on this machine by "
                f"{name or 'another process'}: wait for it to end, or cancel it",
                holder=name or None,
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without a name
            os.truncate(place, 0)
            place.write_text(f"{holder}\n", encoding="utf-8")
        yield
    finally:
        os.close(fd)


def _opened(place: Path) -> int | None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return os.open(place, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        _log.warning("lock file %s can't be opened; using the database's lock only: %s", place, e)
        return None


@contextmanager
def hold_channel(
    engine: Engine, recordings_dir: Path, slug: str, holder: str
) -> Iterator[ChannelLock]:
    """Hold a channel's locks, on this machine and in the database, as its only writer.

    Raises db.errors.ChannelBusy with the holder; DatabaseUnreachable.
    """
    with alone_here(recordings_dir, slug, holder), channel_lock(engine, slug, holder) as lock:
        yield lock
