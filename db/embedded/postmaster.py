"""Runs Postgres's tools as a given user, and reads the files of a running server."""

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

_POLL_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """Content of a live postmaster's file; port and `socket_dir` are valid only when ready.

    listens: also on TCP.
    """

    pid: int
    ready: bool
    socket_dir: Path
    port: int = 0
    listens: bool = False

    @property
    def url(self) -> str:
        """Return the owner's URL, with the socket."""
        host = quote(str(self.socket_dir))
        return f"postgresql://{DATABASE}@/{DATABASE}?host={host}&port={self.port}"


def read_status(cluster: Path) -> Status | None:
    """Read the postmaster's file; None if it is missing or no such server is running.

    The lines are: process, data directory, start, port, socket directory, address, shared memory,
    status (PostgreSQL, src/include/utils/pidfile.h).
    """
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    # It may be incomplete or empty after a crash.
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
    """Return whether process `pid` is the server of `cluster`, by its command line.

    (/proc/PID/cwd would be more reliable, but root in a container may not read it.)
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
    """Replace the process id in a dead server's file, so that the next one can start.

    After a crash or a reboot another process may have the id, and Postgres refuses to start if
    it is alive. Postgres accepts the id of pg_ctl's parent, which we will be. The file must not be
    deleted, because Postgres detects running children of the dead server by its other lines
    (src/backend/utils/init/miscinit.c, CreateLockFile).
    """
    file = cluster / "postmaster.pid"
    if file.exists() and file.stat().st_size == 0:
        file.unlink()  # the server died between creating and filling it
    elif file.exists():
        _, *others = file.read_text(encoding="utf-8").splitlines(keepends=True)
        with file.open("r+", encoding="utf-8") as opened:  # keeps owner and mode
            opened.write(f"{os.getpid()}\n" + "".join(others))
            opened.truncate()


class Identity(TypedDict, total=False):
    """Arguments of `subprocess`: user, directory and environment of a tool."""

    cwd: str
    env: dict[str, str]
    user: int
    group: int
    extra_groups: list[int]


def identity(account: Account | None) -> Identity:
    """Return the arguments for `subprocess` that run a tool of Postgres as `account`.

    Without PG* variables, which are for clients, and with messages in English.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    arguments: Identity = {"cwd": "/", "env": environment | {"LC_ALL": "C"}}
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments


def last_errors(log: Path) -> str:
    """Return the errors and hints at the end of a server's log; empty if there are none."""
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
    """Run a tool and return its output; raise EmbeddedError with its last lines if it fails.

    given_up: when it returns True, the tool is killed, which is an error too.
    """
    # To a file, because a server that inherits a pipe would block its reader.
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
                    process.wait(_POLL_S)
                if given_up():
                    process.kill()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode != 0:
        lines = " | ".join(filter(None, text.splitlines()[-4:]))
        raise EmbeddedError(f"{tool.name} failed ({process.returncode}): {lines}")
    return text


def start_guard(
    pg_ctl: Path, cluster: Path, mode: str, account: Account | None
) -> subprocess.Popen[bytes]:
    """Start a shell that stops the server when our end of a pipe is closed."""
    script = 'read -r line; exec "$0" stop -D "$1" -m "$2" -w'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, str(pg_ctl), str(cluster), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # not stopped by Ctrl-C in a terminal
        **identity(account),
    )
