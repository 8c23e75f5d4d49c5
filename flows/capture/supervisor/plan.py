"""When a capture is over: by the clock, by how much of the source was recorded, or when asked."""

import threading
import time
from datetime import UTC, datetime, timedelta

from flows.capture.recorded.recording import Recording


class Plan:
    """How long to record, and the end of it.

    until: aware; when to stop. duration_s: how much to record, from the first segment on.
    grace_s: a source that stops has no clock; ours then says when the time is up, so much later.
    """

    def __init__(self, *, until: datetime | None, duration_s: float | None, grace_s: float) -> None:
        """Keep the arguments; the time counts from `begin` on."""
        self._until, self._duration_s, self._grace_s = until, duration_s, grace_s
        self._began_at = time.monotonic()
        self.stopping = threading.Event()
        """Set to end it now."""

    def begin(self) -> None:
        """Count from now on."""
        self._began_at = time.monotonic()

    def content_end(self, recording: Recording) -> datetime | None:
        """Return the end of what is wanted, by the source's clock; None if that is not known."""
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
        """Wait so long, or until it is over."""
        end = time.monotonic() + seconds
        while not self.is_over(recording) and (left_s := end - time.monotonic()) > 0:
            self.stopping.wait(min(left_s, 0.2))
