"""When to poll a live playlist: as rarely as RFC 8216 requires, and soon after it has grown.

6.3.4: a segment's length after a playlist that has changed, half of it after one that has not. A
server may ban clients that poll more often. So the moment at which it grows is found by polling a
little earlier each time, until that is too early; then polls come just after that moment.
After a refusal for too many requests, no poll is early.
"""

import logging
import time
from typing import Final

from flows.capture.segment import MAX_BACKOFF_S, CaptureError

_log = logging.getLogger(__name__)

_EARLY: Final = 0.075
"""Share of a segment's length that a poll may be early: within a network's jitter."""

_CREEP: Final = 0.001
"""Share of a segment's length that each poll is earlier: follows a slightly faster clock."""

_MARGIN: Final = 0.02
_MORE_MARGIN: Final = 0.04
_MAX_MARGIN: Final = 0.3
_MAX_BACKOFF_S: Final = 30.0
_REFUSED: Final = (401, 403, 429)
_TOO_MANY: Final = 429


class Pacing:
    """Schedules the polls. Times are monotonic; `target_s` and `last_s` are the source's.

    It outlives a run: a pause that a server requires holds for the next one too.
    """

    def __init__(self) -> None:
        """Be due at once."""
        self.target_s, self.last_s = 2.0, 2.0
        self.changed_at = time.monotonic()
        self.due_at = 0.0
        self.lists_few = False
        """Whether the playlist lists so few segments that one is missed if a poll is late."""
        self.wait_s = 0.0
        """Seconds without polls that the server requires."""
        self.failures = 0
        self._grew_by: float | None = None
        self._grows_at: float | None = None
        self._margin = _MARGIN
        self._early = _EARLY

    @property
    def pace_s(self) -> float:
        """Seconds until the next segment, by the length of the last one."""
        return max(self.last_s or self.target_s, self.target_s / 3)

    def begin(self) -> None:
        """Begin a run: it is unknown when its playlist grows."""
        self.changed_at = time.monotonic()
        self._grew_by = self._grows_at = None
        self.failures = 0
        self.due_at = self.due_at if self.wait_s else 0.0

    def hold(self, until: float) -> None:
        """Do not poll until then: the server required that elsewhere."""
        left_s = until - time.monotonic()
        if left_s > 0:
            self.wait_s = max(self.wait_s, left_s)
            self.due_at = max(self.due_at, until)

    def hurry(self) -> None:
        """Be due at once: it is another playlist."""
        self.due_at = 0.0
        self._grew_by = self._grows_at = None

    def grew(self, asked_at: float) -> None:
        """Note that the playlist requested at that time had new segments."""
        self.failures, self.wait_s, self.changed_at = 0, 0.0, time.monotonic()
        pace_s = self.pace_s
        earliest = asked_at + (1 - self._early) * pace_s
        self._grew_by = asked_at
        if self._grows_at is None or self.lists_few:
            self.due_at = earliest
            return
        while self._grows_at + self._margin * pace_s < earliest:
            self._grows_at += (1 - _CREEP) * pace_s
            if self._grows_at + self._margin * pace_s > earliest + pace_s:
                break
        self.due_at = self._grows_at + self._margin * pace_s

    def unblocked(self, at: float) -> None:
        """Note that the playlist grew at that moment: a blocking reload was answered."""
        self.failures, self.wait_s, self.changed_at = 0, 0.0, time.monotonic()
        self._grew_by = self._grows_at = None
        self.due_at = at + (1 - self._early) * self.pace_s

    def stayed(self, asked_at: float) -> None:
        """Note that the playlist requested at that time had nothing new."""
        self.failures, self.wait_s = 0, 0.0
        pace_s = self.pace_s
        if self._grows_at is not None:
            self._margin = min(self._margin + _MORE_MARGIN, _MAX_MARGIN)
        if self._grew_by is not None:
            # It grows at the latest a segment's length after it last grew.
            self._grows_at = max(asked_at, min(self._grew_by + pace_s, asked_at + pace_s / 2))
        self._grew_by = None
        self.due_at = asked_at + max(pace_s, self.target_s) / 2

    def failed(self, error: CaptureError) -> None:
        """Note that the request failed."""
        now = time.monotonic()
        status = getattr(error, "status", None)
        retry_after_s = getattr(error, "retry_after_s", None)
        self.failures += 1
        self._grew_by = self._grows_at = None
        if retry_after_s or status == _TOO_MANY:
            self._early = 0.0
        if retry_after_s:
            self.wait_s = min(retry_after_s, MAX_BACKOFF_S)
            _log.warning("the source asks to be polled again in %.0f s", self.wait_s)
        elif status == _TOO_MANY:
            self.wait_s = min(self.target_s * 2**self.failures, _MAX_BACKOFF_S)
        elif status in _REFUSED:
            self.due_at = now + min(max(self.target_s / 2, 0.1 * 2**self.failures), 5.0)
            return
        else:
            self.due_at = now + min(0.1 * 2**self.failures, self.target_s, 2.0)
            return
        self.due_at = now + self.wait_s
