"""Asks code that reads what sites serve, in a process that is bounded and can be cut off.

Memory, processor time and time are limits of each question; a bomb ends its own child, and
nothing else. What comes back is JSON, and not to be trusted either.
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
"""Of each process, a JavaScript runtime's too: V8 takes 512 MB for its own use before it starts."""

CPU_S: Final = 20
MAX_ANSWER_BYTES: Final = 17 << 20
"""A playlist as long as one may be, and what is said of it."""

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
"""Environment variables without secrets, which are passed on."""


class OutOfBounds(CaptureError):
    """A question took more than it may: memory, processor time, or room for its answer."""


class Box:
    """Answers questions by a module's `answer`, each in a child of a process that is kept.

    The process starts with the first question, takes none of our environment's secrets, and ends
    with us. Several threads may ask at once.
    """

    def __init__(
        self, module: str, *, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S
    ) -> None:
        """Keep the arguments; nothing is started yet."""
        self._module, self._memory_bytes, self._cpu_s = module, memory_bytes, cpu_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def ask(
        self, question: dict[str, Any], wait_limit: WaitLimit, *, within_s: float
    ) -> dict[str, Any]:
        """Return what is answered to a question; when this returns or raises, the child is killed.

        Raises OutOfBounds, TimeoutError, and what ends the patience.
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
                said = _read(ours, ends_at, wait_limit)
            except ConnectionError:
                said = b""  # it ended before it had read
            finally:
                os.close(leash)
                os.close(held)
        try:
            answer = json.loads(said)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise OutOfBounds(
                f"it takes more than it may ({self._memory_bytes >> 20} MB, {self._cpu_s} s of a "
                "processor), or broke off"
            )
        return answer

    def start(self) -> None:
        """Have the process make ready meanwhile: it takes a second or two."""
        with self._lock:
            if self._process is None:
                self._start()

    @property
    def pid(self) -> int | None:
        """Return the process's number, once it was started."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the process; the next question starts another."""
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
    said = bytearray()
    while True:
        if not select.select([ours], [], [], wait_limit.step_s(ends_at))[0]:
            continue
        more = ours.recv(1 << 16)
        said += more
        if not more or len(said) > MAX_ANSWER_BYTES:
            return b"" if more else bytes(said)
