"""Reads the operator's files, which hold secrets: only their owner may have access."""

import os
import stat
from itertools import islice
from pathlib import Path
from typing import Final

_MAX_FILES: Final = 20_000
"""Most files of a folder of plugins that are looked at."""


def read_private(path: Path, most_bytes: int) -> str:
    """Return the text of a file that only we can read; raises ValueError."""
    try:
        # Without waiting: a FIFO without a writer would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                what = "Is a directory" if stat.S_ISDIR(status.st_mode) else "Is no regular file"
                raise ValueError(f"{path} can't be read: {what}")
            require_own(path, status, readable=False)
            data = file.read(most_bytes + 1)
    except OSError as e:
        raise ValueError(f"{path} can't be read: {e.strerror}") from None
    if len(data) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes >> 10} KB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text (UTF-8)") from None


def require_own(path: Path, status: os.stat_result, *, readable: bool) -> None:
    """Raise ValueError for a file that others can write to, or, unless readable, read."""
    if status.st_uid not in (os.geteuid(), 0):
        raise ValueError(
            f"{path} belongs to another user (number {status.st_uid}): chown {os.geteuid()} {path}"
        )
    if status.st_mode & (0o022 if readable else 0o077):
        what, wish = ("written to", "go-w") if readable else ("read or written to", "600")
        raise ValueError(f"{path} can be {what} by others: chmod {wish} {path}")


def require_own_code(folder: Path) -> None:
    """Raise ValueError for a folder with a file that others can write to: code that we run."""
    inside = (
        Path(where) / name
        for where, folders, files in os.walk(folder, followlinks=True)
        for name in (*folders, *files)
    )
    for path in (folder, *islice(inside, _MAX_FILES)):
        try:
            require_own(path, path.stat(), readable=True)
        except FileNotFoundError:
            continue  # a link to nothing, or a file that Python replaces in __pycache__
        except OSError as e:
            raise ValueError(f"{path} can't be read: {e.strerror}") from None
