"""The directory of the embedded Postgres's socket, closed to other users."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

from db.embedded.placement import Account

PORT: Final = 5432
"""Part of the socket's file name; without TCP no port is used."""

MAX_SOCKET_BYTES: Final = 100
"""Maximum length of a socket's path; the kernel's limit is 108 bytes on Linux, 104 on macOS."""


def make_socket_dir(home: Path, account: Account | None) -> Path:
    """Return a directory for the socket, closed to others, with a short enough path.

    home: directory of the data. account: OS user of the server; None: the current user.
    """
    short = home / "run"
    too_long = len(os.fsencode(short / ".s.PGSQL.65535")) > MAX_SOCKET_BYTES
    # The setting is a list: paths that need quotes are avoided.
    if too_long or not re.fullmatch(r"[\w/.@-]+", str(short), re.ASCII):
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        short = Path("/tmp") / f"showmood-{name}"
    try:
        short.mkdir(mode=0o700)
    except FileExistsError:
        found = short.lstat()
        ours = (account.uid if account else os.geteuid(), os.geteuid())
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
            # Created by another user: never use their directory.
            short = Path(tempfile.mkdtemp(dir="/tmp", prefix="showmood-"))
    give_away(short, account)
    for lock in short.glob(".s.PGSQL.*.lock"):  # of a dead server
        lock.unlink(missing_ok=True)
    return short


def give_away(directory: Path, account: Account | None) -> None:
    """Give a directory to the account, if there is one."""
    if account is not None:
        os.chown(directory, account.uid, account.gid)
