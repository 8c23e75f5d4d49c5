"""Small state files: written atomically, and checked when they are read."""

import errno
import logging
import os
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

_log = logging.getLogger(__name__)

State = TypeVar("State")


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file atomically: a crash leaves the old or the new content.

    durable: survives a loss of power, too; waits for the disk. Raises OSError; then no temporary
    file is left.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def read_state(path: Path, kind: TypeAdapter[State]) -> State | None:
    """Return a file's content as `kind`; None where the file is missing or invalid."""
    try:
        return kind.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as e:
        why = e.strerror if isinstance(e, OSError) else e.errors(include_url=False)[0]["msg"]
        _log.warning("%s can't be used (%s): its content is determined again", path.name, why)
        return None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems don't support it
            raise
    finally:
        os.close(handle)
