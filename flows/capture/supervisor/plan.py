"""When a capture ends: by the clock, by the recorded length, or on request."""

import threading
import time
from datetime import UTC, datetime, timedelta

from flows.capture.recorded.recording import Recording


class Plan:
    """How long to record.

    until: aware; when to stop. duration_s: how much to record, from the first segment, by the
    source's clock. grace_s: extra time until our clock ends a source that has stopped.
    """

    def __init__(self, *, until: datetime | None, duration_s: float | None, grace_s: float) -> None:
        """Keep the arguments; our clock starts at `begin`."""
        self._until, self._duration_s, self._grace_s = until, duration_s, grace_s
        self._began_at = time.monotonic()
        self.stopping = threading.Event()
        """Set to end it now."""

    def begin(self) -> None:
        """Start our clock."""
        self._began_at = time.monotonic()

    def content_end(self, recording: Recording) -> datetime | None:
        """Return the planned end by the source's clock; None if unknown."""
        if recording.first is None or self._duration_s is None:
            return None
        return recording.first.start + timedelta(seconds=self._duration_s)

    def is_over(self, recording: Recording | None = None) -> bool:
        """Return whether to stop; without a recording, by the clock alone."""
        if self.stopping.is_set():
            return True
        if self._until is not None and datetime.now(UTC) >= self._until:
            return True
        if recording is not None and recording.last is not None:
            end = self.content_end(recording)
            if end is not None and recording.last.end >= end:
                return True
        return self._duration_s is not None and (
            time.monotonic() - self._began_at >= self._duration_s + self._grace_s
        )

    def pause(self, seconds: float, recording: Recording | None = None) -> None:
        """Wait for this time, or until the end."""
        end = time.monotonic() + seconds
        while not self.is_over(recording) and (left_s := end - time.monotonic()) > 0:
            self.stopping.wait(min(left_s, 0.2))
