"""Runs code that reads untrusted pages in a child process with limits.

Memory, CPU time and time are limited for each request; hostile input ends only its own child. The
result is JSON, and untrusted, too.
"""

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Final

from flows.capture.segment import CaptureError
from flows.capture.waits import WaitLimit

MEMORY_BYTES: Final = 1 << 30
"""Limit of each process, JavaScript runtimes included: V8 alone reserves 512 MB at its start."""

CPU_S: Final = 20
MAX_ANSWER_BYTES: Final = 17 << 20
"""The longest playlist, and the other fields."""

_END_S: Final = 1.0
_START = (
    "import json, socket, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from flows.capture.source.ytdlp.sandbox_process import serve;"
    "serve(socket.socket(fileno=0), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"
)
_PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Environment variables that are passed on; none of them holds a secret."""


class LimitExceeded(CaptureError):
    """A request exceeded its limit of memory, CPU time or size of the result."""


class Sandbox:
    """Runs a module's `answer`, each time in a new child of a long-running process.

    That process starts with the first request, gets none of our environment's secrets, and ends
    with us. Thread-safe.
    """

    def __init__(
        self, module: str, *, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S
    ) -> None:
        """Keep the arguments; nothing is started yet."""
        self._module, self._memory_bytes, self._cpu_s = module, memory_bytes, cpu_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def run(
        self, question: dict[str, Any], wait_limit: WaitLimit, *, within_s: float
    ) -> dict[str, Any]:
        """Return the result of `answer`; then the child is killed, also on an error.

        Raises LimitExceeded, TimeoutError, and as `WaitLimit` does.
        """
        ends_at = time.monotonic() + within_s
        ours, theirs = socket.socketpair()
        leash, held = os.pipe()
        with ours:
            try:
                with theirs:
                    self._send([theirs.fileno(), leash])
                ours.settimeout(within_s)  # of a process that does not read
                ours.sendall(json.dumps(question).encode())
                ours.shutdown(socket.SHUT_WR)
                data = _read(ours, ends_at, wait_limit)
            except ConnectionError:
                data = b""  # it ended before it had read the question
            finally:
                os.close(leash)
                os.close(held)
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise LimitExceeded(
                f"it exceeded its limits ({self._memory_bytes >> 20} MB, {self._cpu_s} s of CPU "
                "time), or crashed"
            )
        return answer

    def start(self) -> None:
        """Start the process in advance, which takes a second or two."""
        with self._lock:
            if self._process is None:
                self._start()

    @property
    def pid(self) -> int | None:
        """Return the process's pid; None before its start."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            if self._control is None or self._process is None:
                return
            self._control.close()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel keeps it
                    self._process.wait(_END_S)
            self._control = self._process = None

    def _send(self, given: list[int]) -> None:
        with self._lock:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self._start()
            assert self._control is not None
            socket.send_fds(self._control, [b"?"], given)

    def _start(self) -> None:
        if self._control is None:
            atexit.register(self.close)
        else:
            self._control.close()
        self._control, theirs = socket.socketpair()
        arguments = [json.dumps(sys.path), self._module, str(self._memory_bytes), str(self._cpu_s)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in _PASSED_ON},
                process_group=0,
            )


def _read(ours: socket.socket, ends_at: float, wait_limit: WaitLimit) -> bytes:
    data = bytearray()
    while True:
        if not select.select([ours], [], [], wait_limit.step_s(ends_at))[0]:
            continue
        more = ours.recv(1 << 16)
        data += more
        if not more or len(data) > MAX_ANSWER_BYTES:
            return b"" if more else bytes(data)
