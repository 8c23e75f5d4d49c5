"""Detects that this process was suspended: the machine slept, or the process was stopped."""

import threading
import time
from typing import Final, Self

SUSPENDED_S: Final = 3.0
"""Seconds between two ticks above which the process was suspended."""

_TICK_S: Final = 0.5


class SuspensionDetector:
    """Ticks on its own thread while its context lasts."""

    def __init__(self) -> None:
        """Begin without a suspension."""
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._ticked_at = time.monotonic()
        self._missed_s = 0.0
        self.resumed_at = 0.0
        """When the process last resumed (monotonic)."""
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._ticked_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def take_missed_s(self) -> float:
        """Return the seconds of suspension since the last call; 0 if there was none."""
        self._tick()
        with self._looking:
            missed_s, self._missed_s = self._missed_s, 0.0
        return missed_s

    def _run(self) -> None:
        while not self._over.wait(_TICK_S):
            self._tick()

    def _tick(self) -> None:
        with self._looking:
            now = time.monotonic()
            if (missed_s := now - self._ticked_at) > SUSPENDED_S:
                self._missed_s += missed_s
                self.resumed_at = now
            self._ticked_at = now
