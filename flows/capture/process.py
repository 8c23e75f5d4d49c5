"""Child processes that never outlive their watcher, however it dies."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import imageio_ffmpeg

from flows.capture.segment import CaptureFailed

GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL."""

_SECOND_TERM_S: Final = 1.5
"""ffmpeg blocked on a read heeds only a second SIGTERM, which makes its reads return."""

# A preexec_fn may deadlock in a process with threads, so the child arms itself: a bare
# interpreter asks the kernel for SIGKILL at the parent's death, checks that the parent still
# lives (it may have died before the call), and becomes the tool.
_LAUNCH: Final = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_ffmpeg(path: str | os.PathLike[str] | None = None) -> str:
    """Return the ffmpeg to run: the one named, else the one that comes with imageio-ffmpeg.

    Raises CaptureFailed when the one named is not there.
    """
    if path is None:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    found = shutil.which(os.fspath(path))
    if found is None:
        raise CaptureFailed(f"no ffmpeg at {os.fspath(path)}; leave the path out for the built-in")
    return found


def spawn(
    arguments: Sequence[str], *, log: Path, pid_file: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a tool that dies with the calling thread, its output appended to `log`.

    It stays in our process group and inherits neither stdin nor stdout: whoever waits for the
    end of our output must not wait for the tool's. On Linux the kernel kills it when the thread
    that called this ends, so call it from the thread that watches it.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    if pid_file is not None:
        record = {"pid": process.pid, "born": _birth(process.pid)}
        pid_file.write_text(json.dumps(record), encoding="utf-8")
    return process


def stop(process: subprocess.Popen[bytes], *, grace_s: float = GRACE_S) -> int:
    """Ask the tool to finish, kill it after `grace_s`, and return its exit status."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(min(_SECOND_TERM_S, grace_s))
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(0.0, grace_s - _SECOND_TERM_S))
    process.kill()
    return process.wait()


def end_stale(pid_file: Path) -> bool:
    """Kill what an earlier watcher of this directory left running; True if there was any."""
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        pid, born = int(record["pid"]), record["born"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    pid_file.unlink(missing_ok=True)
    # A number alone proves nothing: pids are used again.
    if born is None or _birth(pid) != born:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GRACE_S
    while _birth(pid) == born and time.monotonic() < deadline:
        time.sleep(0.01)
    return True


def _birth(pid: int) -> str | None:
    """Return what tells this process from a later one with its number; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None if sys.platform == "linux" else _birth_by_ps(pid)
    # proc(5): the fields after the command's closing bracket; state is the 3rd, starttime the 22nd.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _birth_by_ps(pid: int) -> str | None:
    """Do the same where there is no /proc."""
    ps = shutil.which("ps")
    if ps is None:
        return None
    done = subprocess.run([ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").strip() or None
