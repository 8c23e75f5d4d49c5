"""Child processes that end when the process that started them ends in any way."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

import imageio_ffmpeg

from flows.capture import keeper
from flows.capture.segment import CaptureFailed
from flows.capture.state import write_whole

SECOND_TERM_S: Final = 4.0
GRACE_S: Final = 5.0
"""Seconds from the first SIGTERM to the second, and to SIGKILL.

After the first, ffmpeg finishes its file once its current read returns, with the source's next
segment; the second interrupts that read, and cuts the file off.
"""

_CUT_AFTER_S: Final = 0.5
"""Seconds from the first SIGTERM until the tool's input is closed."""

_MARGIN_S: Final = 1.0
_ISOLATE_S: Final = 10.0

_log = logging.getLogger(__name__)

can_isolate = sys.platform == "linux"
"""Whether tools run in a network namespace; False once the kernel has refused it."""


class Endpoint(Protocol):
    """The only address that a tool can reach: a port of this process on loopback."""

    @property
    def kind(self) -> Literal["tcp", "udp"]:
        """The protocol of that port."""

    @property
    def port(self) -> int:
        """The port number."""

    def move(self, inner: socket.socket) -> None:
        """Serve this socket in the tool's namespace, and close the one that others can reach."""


def find_ffmpeg(path: str | os.PathLike[str] | None = None) -> str:
    """Return the absolute path of ffmpeg: the one named, else that of imageio-ffmpeg.

    Raises CaptureFailed if the named one does not exist.
    """
    if path is None:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    found = shutil.which(os.fspath(path))
    if found is None:
        raise CaptureFailed(f"no ffmpeg at {os.fspath(path)}; leave the path out for the built-in")
    return os.path.abspath(found)


def kept(
    arguments: Sequence[str], *, second_term_s: float = SECOND_TERM_S, grace_s: float = GRACE_S
) -> list[str]:
    """Return the command that runs a tool, given by absolute path, under `keeper.py`.

    SIGUSR1 to the keeper, and the end of this process, end the tool: SIGTERM, another after
    `second_term_s`, SIGKILL after `grace_s`.
    """
    return _kept(arguments, second_term_s, grace_s, endpoint="")


def _kept(
    arguments: Sequence[str], second_term_s: float, grace_s: float, endpoint: str
) -> list[str]:
    command = [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid())]
    return [*command, str(second_term_s), str(grace_s), endpoint, *arguments]


def spawn(
    arguments: Sequence[str],
    *,
    log: Path,
    pid_file: Path,
    environment: Mapping[str, str] | None = None,
    endpoint: Endpoint | None = None,
) -> subprocess.Popen[bytes]:
    """Start a tool under a keeper that ends it when this process is gone.

    The tool's output is appended to `log`. environment: added to ours, from which all proxy
    variables are removed; other users cannot read it, as they can a command line. The tool stays in
    our process group and inherits neither stdin nor stdout, so that a reader of our output sees its
    end. pid_file: written for `end_stale`.

    endpoint: the only address that the tool can reach, where the kernel allows network namespaces.
    """
    global can_isolate
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    variables |= environment or {}
    process: subprocess.Popen[bytes] | None = None
    with log.open("ab") as sink:
        if endpoint is not None and can_isolate:
            process = _spawn_isolated(arguments, variables, sink.fileno(), endpoint)
            if process is None:
                can_isolate = False
                _log.info("this system refuses network namespaces: only the proxy guards ffmpeg")
        if process is None:
            process = subprocess.Popen(
                _kept(arguments, SECOND_TERM_S, GRACE_S, ""),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
            )
    claim(pid_file, process.pid)
    return process


def _spawn_isolated(
    arguments: Sequence[str], variables: Mapping[str, str], sink: int, endpoint: Endpoint
) -> subprocess.Popen[bytes] | None:
    """Start a tool in a network namespace with its endpoint; None where the kernel refuses."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                _kept(
                    arguments,
                    SECOND_TERM_S,
                    GRACE_S,
                    f"{theirs.fileno()}:{endpoint.kind}:{endpoint.port}",
                ),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
                pass_fds=[theirs.fileno()],
            )
        ours.settimeout(_ISOLATE_S)
        try:
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        except OSError:
            handles = []
    if not handles:
        stop(process, at_once=True)
        return None
    endpoint.move(socket.socket(fileno=handles[0]))
    return process


def claim(pid_file: Path, pid: int | None = None) -> None:
    """Write the pid file for `end_stale`: this process records here, with the child `pid`."""
    pid = os.getpid() if pid is None else pid
    record = {
        "pid": pid,
        "born": _birth(pid),
        "owner": os.getpid(),
        "owner_born": _birth(os.getpid()),
    }
    write_whole(pid_file, json.dumps(record), durable=False)


def stop(
    process: subprocess.Popen[bytes],
    *,
    at_once: bool = False,
    cut: Callable[[], None] | None = None,
) -> int | None:
    """Let the tool finish, or kill it after GRACE_S or at once; return its exit status.

    cut: closes the tool's input, so that a blocked read returns.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGUSR2 if at_once else signal.SIGUSR1)
    if cut is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_CUT_AFTER_S)
        cut()
    try:
        return process.wait(GRACE_S + _MARGIN_S)
    except subprocess.TimeoutExpired:
        process.kill()  # and the kernel kills the tool
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_MARGIN_S)
        return process.returncode


def is_claimed(pid_file: Path) -> bool:
    """Return whether a living process records here."""
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        owner, born = int(record["owner"]), record["owner_born"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return born is not None and _birth(owner) == born


def end_stale(pid_file: Path) -> bool:
    """End a tool that a dead watcher left running here; return whether there was one.

    Waits until the tool has finished its file, so that it can be read. Raises CaptureFailed if the
    watcher is alive: two processes must not write to the same folder.
    """
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        pid, born = int(record["pid"]), record["born"]
        owner, owner_born = int(record["owner"]), record["owner_born"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if owner_born is not None and _birth(owner) == owner_born:
        raise CaptureFailed(f"process {owner} is recording to {pid_file.parent} already")
    # Also compare the start time: pids are reused.
    found = born is not None and _birth(pid) == born
    for number, wait_s in ((signal.SIGUSR1, GRACE_S + _MARGIN_S), (signal.SIGKILL, GRACE_S)):
        deadline = time.monotonic() + wait_s
        if found and _birth(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while found and _birth(pid) == born and time.monotonic() < deadline:
            time.sleep(0.01)
    pid_file.unlink(missing_ok=True)
    return found


def _birth(pid: int) -> str | None:
    """Return the process's start time, which tells it from a later one with its pid.

    None if it has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None if sys.platform == "linux" else _birth_by_ps(pid)
    # proc(5): after the command's closing bracket come the state, the 3rd, and starttime, the 22nd.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _birth_by_ps(pid: int) -> str | None:
    """Return the start time where there is no /proc."""
    ps = shutil.which("ps")
    if ps is None:
        return None
    done = subprocess.run([ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").strip() or None
