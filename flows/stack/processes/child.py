"""A server of the embedded stack, as a process that is started again when it ends by itself."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flows.capture.processes import kept
from flows.errors import StackError

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 15.0
_KILLED_S: Final = 1.0
_LAST_BYTES: Final = 64 * 1024
TRIES: Final = 5
TRIES_WITHIN_S: Final = 600.0
"""Restarts, and the seconds they fall in, after which a process is not started again."""


class Tries:
    """How often something that ends by itself was started again lately."""

    def __init__(self) -> None:
        """Begin with none."""
        self._at: deque[float] = deque(maxlen=TRIES)

    def require(self, reason: str) -> None:
        """Raise StackError with the reason, if one more restart is too many."""
        if len(self._at) == TRIES and time.monotonic() - self._at[0] < TRIES_WITHIN_S:
            raise StackError(f"{reason}; it was restarted {TRIES} times")

    def count(self) -> None:
        """Count a start."""
        self._at.append(time.monotonic())


class Child:
    """A server of the stack: not reached by Ctrl-C in the terminal; ends with this process."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        """Start it, its output appended to `log`."""
        self.name = name
        self.log = log
        self._command = command
        self._env = env
        self._tries = Tries()
        self._waits = False
        log.parent.mkdir(parents=True, exist_ok=True)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                kept(self._command, second_term_s=STOP_TIMEOUT_S, grace_s=STOP_TIMEOUT_S),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise StackError with the log's last line if it has ended."""
        if self.process.poll() is not None:
            raise StackError(self.how_it_ended())

    def wait_until(self, ready: Callable[[], bool], stopping: threading.Event) -> None:
        """Wait until it is ready, or until `stopping` is set.

        Raises StackError when it ends before, or is not ready within START_TIMEOUT_S.
        """
        end = time.monotonic() + START_TIMEOUT_S
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise StackError(
                    f"the {self.name} was not ready within {START_TIMEOUT_S:.0f} s "
                    f"(log: {self.log})"
                )
            if stopping.wait(0.2):
                return

    def tend(self) -> str | None:
        """Start it again if it has ended; return a message on that.

        Raises StackError with the log's last line when it has ended TRIES times too soon. If
        it can't be started now, e.g. for lack of memory, a later call tries again.
        """
        if self.process.poll() is None:
            return None
        reason = self.how_it_ended()
        self._tries.require(reason)
        try:
            self.process = self._start()
        except OSError as e:
            is_new, self._waits = not self._waits, True
            return f"{reason}; it can't be started now ({e}); will retry" if is_new else None
        self._tries.count()
        self._waits = False
        return f"{reason}; it was started again"

    def how_it_ended(self) -> str:
        """Return a line with its exit status and its last error."""
        status = self.process.returncode
        return f"the {self.name} ended with status {status}: {self._last_error()} (log: {self.log})"

    def _last_error(self) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
                text = log.read().decode(errors="replace")
        except OSError as e:
            return f"its log can't be read ({e.strerror})"
        lines = [line.strip() for line in text.splitlines()]
        reason = [line for line in lines if line] or ["no output"]
        errors = [line for line in reason[-30:] if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
        return (errors or reason)[-1]

    @property
    def tool(self) -> int | None:
        """Return the pid of what its keeper started; None if it is gone."""
        try:
            pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return None
        return int(pids.split()[0]) if pids.split() else None

    def kill(self) -> None:
        """Kill it at once, so that it can't do what it does at its end."""
        self.process.kill()  # the keeper, and the kernel its tool
        with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that does not answer
            self.process.wait(_KILLED_S)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
        try:
            self.process.wait(STOP_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that does not answer
                self.process.wait(_KILLED_S)
