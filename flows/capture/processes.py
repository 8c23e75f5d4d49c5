"""Child processes that end with the process that started them, however it dies."""

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
"""From the first SIGTERM to the second and to SIGKILL.

After the first, ffmpeg ends when the read that it is in returns (with the source's next segment),
and finishes its file; the second cuts the read off, and the file with it.
"""

_CUT_AFTER_S: Final = 0.5
"""So long after the first SIGTERM, what the tool reads from is cut off."""

_MARGIN_S: Final = 1.0
_ENCLOSE_S: Final = 10.0

_log = logging.getLogger(__name__)

encloses = sys.platform == "linux"
"""Whether tools get a network of their own: until the kernel has refused that once."""


class Door(Protocol):
    """The only address that a tool may reach: our own port on loopback."""

    @property
    def kind(self) -> Literal["tcp", "udp"]:
        """The protocol of that port."""

    @property
    def port(self) -> int:
        """Its number."""

    def move(self, inner: socket.socket) -> None:
        """Answer on this socket from now on, and no longer where everybody may come."""


def find_ffmpeg(path: str | os.PathLike[str] | None = None) -> str:
    """Return the ffmpeg to run: the one named, else the one that comes with imageio-ffmpeg.

    Raises CaptureFailed when the one named is not there.
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
    """Return the command that runs a tool, by its absolute path, under a keeper of ours.

    SIGUSR1 to the keeper, and the end of this process, end the tool: SIGTERM, after
    `second_term_s` another, after `grace_s` SIGKILL.
    """
    return _kept(arguments, second_term_s, grace_s, door="")


def _kept(arguments: Sequence[str], second_term_s: float, grace_s: float, door: str) -> list[str]:
    command = [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid())]
    return [*command, str(second_term_s), str(grace_s), door, *arguments]


def spawn(
    arguments: Sequence[str],
    *,
    log: Path,
    pid_file: Path,
    environment: Mapping[str, str] | None = None,
    door: Door | None = None,
) -> subprocess.Popen[bytes]:
    """Start a tool under a keeper that ends it when this process is gone.

    The tool's output is appended to `log`. It takes no proxy, and no exception from one, from the
    environment, to which `environment` is added: unlike a command line, only its owner sees it. It
    stays in our process group and inherits neither
    stdin nor stdout: whoever waits for the end of our output must not wait for the tool's.
    `pid_file` tells `end_stale` what runs here, and for whom.

    door: all that the tool may reach. Where the kernel allows that, it has a network of its own,
    in which there is nothing else.
    """
    global encloses
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    variables |= environment or {}
    process: subprocess.Popen[bytes] | None = None
    with log.open("ab") as sink:
        if door is not None and encloses:
            process = _spawn_enclosed(arguments, variables, sink.fileno(), door)
            if process is None:
                encloses = False
                _log.info("this system gives ffmpeg no network of its own; the proxy guards it")
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


def _spawn_enclosed(
    arguments: Sequence[str], variables: Mapping[str, str], sink: int, door: Door
) -> subprocess.Popen[bytes] | None:
    """Start a tool in a network of its own, its door moved there; None where that can't be."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                _kept(
                    arguments,
                    SECOND_TERM_S,
                    GRACE_S,
                    f"{theirs.fileno()}:{door.kind}:{door.port}",
                ),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
                pass_fds=[theirs.fileno()],
            )
        ours.settimeout(_ENCLOSE_S)
        try:
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        except OSError:
            handles = []
    if not handles:
        stop(process, at_once=True)
        return None
    door.move(socket.socket(fileno=handles[0]))
    return process


def claim(pid_file: Path, pid: int | None = None) -> None:
    """Write what tells `end_stale` that this process records here, with the help of another."""
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
    """Have the tool finish, or be killed after GRACE_S or at once; return its exit status.

    cut: takes away what it reads from, so that a read returns which waits for that.
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
    """Return whether a living process records in this place."""
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        owner, born = int(record["owner"]), record["owner_born"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return born is not None and _birth(owner) == born


def end_stale(pid_file: Path) -> bool:
    """End a tool that a dead watcher left running here; True if there was one.

    Waits until the tool has finished its file, so that what it wrote can be read. Raises
    CaptureFailed if the watcher is alive: two may not write to the same place.
    """
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        pid, born = int(record["pid"]), record["born"]
        owner, owner_born = int(record["owner"]), record["owner_born"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if owner_born is not None and _birth(owner) == owner_born:
        raise CaptureFailed(f"process {owner} is recording to {pid_file.parent} already")
    # A number alone proves nothing: pids are used again.
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
    """Return what tells this process from a later one with its number; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None if sys.platform == "linux" else _birth_by_ps(pid)
    # proc(5): after the command's closing bracket come the state, the 3rd, and starttime, the 22nd.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _birth_by_ps(pid: int) -> str | None:
    """Do the same where there is no /proc."""
    ps = shutil.which("ps")
    if ps is None:
        return None
    done = subprocess.run([ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").strip() or None
