"""The home folder: made before anything else, the operator's alone, on a disk of this machine."""

import logging
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from filelock import FileLock, Timeout

from flows.capture.disk import is_temporary
from flows.capture.state import write_whole
from flows.errors import UsageError

_log = logging.getLogger(__name__)

PRIVATE: Final = 0o077
"""The umask of what writes into a home."""

NEEDED_MB: Final = 150
"""Megabytes that an empty Postgres and a Prefect server's database take."""

NETWORK: Final = frozenset(("nfs", "nfs4", "cifs", "smb3", "afs", "ceph", "lustre", "fuse.sshfs"))
"""Kinds of file system, as in /proc/self/mounts."""

_LOCK_S: Final = 10.0

MADE: Final = ("recordings", "clips", "logs", "prefect", "tmp", "demo")
"""Folders in a home that are private too."""


def make_home(
    home: Path, *, embedded: bool = True, may_wait: bool = False, mounts: str | None = None
) -> None:
    """Make the home folder if it is missing, and close it to others whatever its mode was.

    embedded: an embedded database is to be in it. may_wait: a disk that is full, read-only or away
    just now is a warning: a show that is watched waits for it. mounts: in place of
    /proc/self/mounts.

    Raises UsageError, one line, where it cannot serve; then nothing was made in it.
    """
    else_ = "set SHOWMOOD_HOME to another folder"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = home.stat()
        if status.st_uid != os.geteuid():
            owner = _name(status.st_uid)
            raise UsageError(f"{home} belongs to {owner}: run as {owner}, or {else_}")
        kind = network_disk(home, mounts)
        if embedded and kind is not None:
            raise UsageError(
                f"{home} is on a network disk ({kind}), where databases lose data: {else_}"
            )
        free_mb = shutil.disk_usage(home).free / 1e6
        if embedded and free_mb < NEEDED_MB:
            raise UsageError(
                f"the disk of {home} is full, {free_mb:.0f} MB are free: make room, or {else_}"
            )
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(4096))
            probe.flush()
        _close(home)
    except OSError as e:
        if may_wait and is_temporary(e):
            _log.warning("%s cannot be written to for now: %s", home, e.strerror)
            return
        raise UsageError(f"{home} cannot be written to ({e.strerror}): {else_}") from e


def disk_of(home: Path) -> str:
    """Return the unique id of a home folder's disk; made once, and kept in the folder.

    A damaged file, e.g. after a power loss, is replaced. Raises UsageError.
    """
    file = home / "disk-id"
    try:
        with FileLock(home / ".disk-id.lock", timeout=_LOCK_S):  # of two that start at once
            content = file.read_text(encoding="utf-8", errors="replace") if file.exists() else None
            try:
                return str(UUID((content or "").strip()))
            except ValueError:
                if content is not None:
                    _log.warning("%s holds no id: this disk is given a new one", file)
            made = str(uuid4())
            write_whole(file, f"{made}\n")
            return made
    except (OSError, Timeout) as e:
        why = getattr(e, "strerror", None) or str(e)
        raise UsageError(f"{file} cannot be read or written: {why}") from e


def keep_private() -> None:
    """Make all that this process and its children write readable by the operator only."""
    os.umask(PRIVATE)


def network_disk(path: Path, mounts: str | None = None) -> str | None:
    """Return the kind of network disk that a path is on; None if on no such disk, or unknown."""
    if mounts is None:
        table = Path("/proc/self/mounts")
        mounts = table.read_text(errors="replace") if table.exists() else ""
    there, depth, kind = path.resolve(), 0, ""
    for fields in map(str.split, mounts.splitlines()):
        point = Path(fields[1].replace("\\040", " ")) if len(fields) > 2 else Path()
        if there.is_relative_to(point) and len(point.parts) >= depth:  # the last one is on top
            depth, kind = len(point.parts), fields[2]
    return kind if kind in NETWORK else None


def _close(home: Path) -> None:
    """Close it to other users, and what earlier versions have made in it.

    Where root runs the database as another user, that user must get to data that is in here.
    """
    passed = os.geteuid() == 0 and (home / "postgres" / "cluster").exists()
    home.chmod(0o711 if passed else 0o700)
    for name in MADE:
        folder = home / name
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o700)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
