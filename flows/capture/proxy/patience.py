"""Waits for a segment that is listed before it can be fetched.

A playlist may be ahead of its files: a packager still writes them, or a cache has an older copy of
a file that grows. ffmpeg would skip such a segment.
"""

import threading
from collections.abc import Callable
from typing import Final

from flows.capture.segment import RANGE_NOT_THERE, SourceUnreachable

_LATE: Final = (404, RANGE_NOT_THERE)
_PAUSES_S: Final = (0.2, 0.4, 0.8, 1.6)


class Patience:
    """Repeats requests that fail; after one that failed for good only once another has succeeded.

    stopping: once set, by any thread, requests are not repeated.
    """

    def __init__(
        self, stopping: threading.Event, *, pauses_s: tuple[float, ...] = _PAUSES_S
    ) -> None:
        """Nothing was requested yet."""
        self._stopping, self._pauses_s = stopping, pauses_s
        self._has_failed = False

    def wait_for(self, fetch: Callable[[], bytes]) -> bytes:
        """Return what `fetch` returns; raises what it raises the last time."""
        for pause_s in () if self._has_failed else self._pauses_s:
            try:
                return fetch()
            except SourceUnreachable as e:
                if e.status not in _LATE or e.retry_after_s is not None:
                    raise
                if self._stopping.wait(pause_s):
                    raise
        self._has_failed = True
        body = fetch()
        self._has_failed = False
        return body
