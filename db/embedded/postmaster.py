"""Postgres's own tools, run as a given user, and the files that describe a running server."""

import contextlib
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict
from urllib.parse import quote

from db.embedded.cluster import DATABASE
from db.embedded.placement import Account
from db.errors import EmbeddedError

_LOOK_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What a live postmaster's file says; port and `socket_dir` hold only once it is ready.

    listens: on TCP, too.
    """

    pid: int
    ready: bool
    socket_dir: Path
    port: int = 0
    listens: bool = False

    @property
    def url(self) -> str:
        """Return the URL by the socket, of the owner."""
        host = quote(str(self.socket_dir))
        return f"postgresql://{DATABASE}@/{DATABASE}?host={host}&port={self.port}"


def read_status(cluster: Path) -> Status | None:
    """Read the postmaster's file; None if it is missing or its process is not that server.

    The lines are: process, data directory, start, port, socket directory, address, shared memory,
    status (PostgreSQL, src/include/utils/pidfile.h).
    """
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    # Half of it, or none, is what a crash left.
    if not lines or not lines[0].isdecimal() or not _serves(int(lines[0]), cluster):
        return None
    ready = len(lines) >= 8 and lines[7].strip() == "ready"
    if not ready:
        return Status(pid=int(lines[0]), ready=False, socket_dir=Path())
    return Status(
        pid=int(lines[0]),
        ready=True,
        socket_dir=Path(lines[4]),
        port=int(lines[3]),
        listens=bool(lines[5].strip()),
    )


def _serves(pid: int, cluster: Path) -> bool:
    """Tell whether process `pid` is the server of `cluster`, by its command line.

    (/proc/PID/cwd would say more, but root in a container may not read it.)
    """
    if not Path("/proc/self").exists():
        listed = subprocess.run(
            ["ps", "-p", str(pid), "-o", "command="], capture_output=True, check=False
        )
        return b"postgres" in listed.stdout and os.fsencode(cluster) in listed.stdout
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"postgres" in words[0] and any(
            os.path.samefile(word, cluster) for word in words[1:] if word.startswith(b"/")
        )
    except OSError:  # the process, or one of the files it names, is gone
        return False


def disown(cluster: Path) -> None:
    """Remove a dead server's file, which would keep the next one from starting.

    The process number in it may belong to anybody after a crash or a reboot, and Postgres would
    refuse to start beside a living one of ours. It does not mind the number of pg_ctl's parent,
    which we are about to be; and the file must stay, because by its other lines Postgres finds
    out whether a child of the dead server still writes (src/backend/utils/init/miscinit.c,
    CreateLockFile).
    """
    file = cluster / "postmaster.pid"
    if file.exists() and file.stat().st_size == 0:
        file.unlink()  # died between making and filling it
    elif file.exists():
        _, *others = file.read_text(encoding="utf-8").splitlines(keepends=True)
        with file.open("r+", encoding="utf-8") as opened:  # its owner and mode stay
            opened.write(f"{os.getpid()}\n" + "".join(others))
            opened.truncate()


class Identity(TypedDict, total=False):
    """User, directory and environment that a tool runs with: arguments of `subprocess`."""

    cwd: str
    env: dict[str, str]
    user: int
    group: int
    extra_groups: list[int]


def identity(account: Account | None) -> Identity:
    """Return the arguments for `subprocess` that run a tool of Postgres as `account`.

    Our own PG* variables are for clients, and its messages are to be in one language.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    arguments: Identity = {"cwd": "/", "env": environment | {"LC_ALL": "C"}}
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments


def last_words(log: Path) -> str:
    """Return why a server did not start or stop, by the end of its log; empty if that is silent."""
    if not log.exists():
        return ""
    with log.open(errors="replace") as lines:
        words = [line.partition("] ")[2].strip() for line in deque(lines, maxlen=8)]
    return " | ".join(word for word in words if word.startswith(("FATAL", "HINT", "PANIC")))


def run_tool(
    tool: Path,
    *arguments: str,
    account: Account | None,
    given_up: Callable[[], bool] = lambda: False,
) -> str:
    """Run a tool to its end and return what it said; EmbeddedError with its last lines if not.

    given_up: once it says so, the tool is killed, which is an error too.
    """
    # Into a file, not a pipe: a server that inherits a pipe would keep its reader waiting.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(tool), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **identity(account),
        )
        with process:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
                if given_up():
                    process.kill()
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode != 0:
        lines = " | ".join(filter(None, said.splitlines()[-4:]))
        raise EmbeddedError(f"{tool.name} failed ({process.returncode}): {lines}")
    return said


def start_guard(
    pg_ctl: Path, cluster: Path, mode: str, account: Account | None
) -> subprocess.Popen[bytes]:
    """Start a shell that waits for the end of our pipe, and then stops the server."""
    script = 'read -r line; exec "$0" stop -D "$1" -m "$2" -w'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, str(pg_ctl), str(cluster), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is not for it
        **identity(account),
    )
