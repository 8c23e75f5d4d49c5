"""Free space on the recording's disk, and other passing faults of this machine."""

import errno
import shutil
from pathlib import Path
from typing import Final

from flows.capture.segment import DiskFull

MIN_FREE_BYTES: Final = 256 * 1024 * 1024


_PASSING: Final = frozenset(
    {
        # The disk is full, or the share of it that we may take.
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        # It fails, was made read-only because it failed, or is away.
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


def may_pass(error: OSError) -> bool:
    """Return whether what kept us from writing may be over later: then to wait loses less."""
    return error.errno in _PASSING


def require_space(directory: Path, min_free_bytes: int) -> None:
    """Raise DiskFull where less than that is free."""
    free = shutil.disk_usage(directory).free
    if free < min_free_bytes:
        raise DiskFull(
            f"{directory}: {free >> 20} MiB free, {min_free_bytes >> 20} MiB are needed to record; "
            "free some space"
        )
