"""Room on the recording's disk."""

import shutil
from pathlib import Path
from typing import Final

from flows.capture.segment import DiskFull

MIN_FREE_BYTES: Final = 256 * 1024 * 1024


def require_space(directory: Path, min_free_bytes: int) -> None:
    """Raise DiskFull where less than that is free."""
    free = shutil.disk_usage(directory).free
    if free < min_free_bytes:
        raise DiskFull(
            f"{directory}: {free >> 20} MiB free, {min_free_bytes >> 20} MiB are needed to record; "
            "free some space"
        )
