"""Free space on the recording's disk, and other temporary faults of this machine."""

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from flows.capture.segment import DiskFull

_log = logging.getLogger(__name__)

MIN_FREE_BYTES: Final = 256 * 1024 * 1024

AGAIN_S: Final = 1.0
"""Seconds between two tries to begin on a disk that takes nothing."""

Result = TypeVar("Result")

_TEMPORARY: Final = frozenset(
    {
        # The disk is full, or the quota is used up.
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        # The disk fails, was made read-only after a failure, or is not reachable.
        errno.EIO,
        errno.EROFS,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EBUSY,
        # The machine has no memory, process or handle left.
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    }
)


def is_temporary(error: OSError) -> bool:
    """Return whether a write error may be temporary, so that a retry makes sense."""
    return error.errno in _TEMPORARY


def require_space(directory: Path, min_free_bytes: int) -> None:
    """Raise DiskFull where fewer than min_free_bytes are free."""
    free = shutil.disk_usage(directory).free
    if free < min_free_bytes:
        raise DiskFull(
            f"{directory}: {free >> 20} MiB free, {min_free_bytes >> 20} MiB are needed to record; "
            "free some space"
        )


def once_writable(
    do: Callable[[], Result], *, over: Callable[[], bool], pause: Callable[[float], object]
) -> Result:
    """Return the result of `do`, which is tried again while the disk is full, read-only or away.

    do: idempotent. over: tells when to give up. pause: waits, for so many seconds at most. Raises
    DiskFull when it gives up, and at once any OSError that does not pass.
    """
    said = False
    while True:
        try:
            return do()
        except OSError as e:
            if not is_temporary(e):
                raise
            error = DiskFull(f"{e.filename or 'the recordings'}: {e.strerror}; check the disk")
            if over():
                raise error from e
            if not said:
                _log.warning("recording waits to begin: %s", error)
            said = True
        pause(AGAIN_S)
