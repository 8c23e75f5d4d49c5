"""Counts and state of a capture, as a short text."""

import time
from collections.abc import Iterable
from typing import Final

from flows.capture.segment import Gap, Segment

_QUIET_S: Final = 5.0
"""Seconds without a segment that are never reported as silence."""


class Progress:
    """Counts of one capture, written by its thread and read by any."""

    def __init__(self) -> None:
        """Begin with zero counts."""
        self.n_segments = 0
        self.restarts = 0
        self.why: str | None = None
        """Why it is not recording, or was not before the next segment; None while it records."""
        self.by = ""
        """The engine that records in place of the preferred one; else empty."""
        self.over = False
        self._newest_at: float | None = None
        self._longest_s = 0.0

    def add(self, events: Iterable[Segment | Gap]) -> None:
        """Count recorded segments."""
        durations = [event.duration_s for event in events if isinstance(event, Segment)]
        self.n_segments += len(durations)
        self._longest_s = max([self._longest_s, *durations])
        self._newest_at = time.monotonic()
        self.why = None

    @property
    def newest_age_s(self) -> float | None:
        """Seconds since the newest segment was finished; None before the first."""
        return None if self._newest_at is None else time.monotonic() - self._newest_at

    @property
    def state(self) -> str:
        """The capture's state: "live, 412 segments, 0.7 s behind"."""
        restarts = f", {_counted(self.restarts, 'restart')}" if self.restarts else ""
        counts = f"{_counted(self.n_segments, 'segment')}{restarts}"
        age_s, why = self.newest_age_s, self.why
        if self.over:
            return f"ended, {counts}"
        because = f": {why}" if why else ""
        if age_s is None:
            return f"nothing yet{because}"
        if why is not None or age_s > max(_QUIET_S, 3 * self._longest_s):
            return f"nothing for {age_s:.0f} s{because}; {counts}"
        by = f" {self.by}" if self.by else ""
        return f"live{by}, {counts}, {age_s:.1f} s behind"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
