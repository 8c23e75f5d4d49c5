"""Detects that this process did not run for a while: the machine slept, or it was stopped."""

import threading
import time
from typing import Final, Self

SUSPENDED_S: Final = 3.0
"""A tick that comes so late was kept from it."""

_TICK_S: Final = 0.5


class Ticker:
    """Ticks on a thread of its own for as long as its context lasts."""

    def __init__(self) -> None:
        """Nothing was missed yet."""
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._ticked_at = time.monotonic()
        self._missed_s = 0.0
        self.resumed_at = 0.0
        """When the process went on last (monotonic)."""
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
        """Return for how long the process did not run since this was asked last; 0 if it did."""
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
