"""Decides when a refused address is to be found again, as the source may have a new one."""

import time
from typing import Final

from flows.capture.segment import CaptureError

_REFUSED: Final = (401, 403)
_GONE: Final = (404, 410)

_MAX_FORBIDDEN: Final = 3
_REFUSED_S: Final = 2.0
_REFUSED_AT_FIRST_S: Final = 6.0
"""Seconds that a playlist is refused before its address is found again; the second is for one that
this run never had: its address was just found.
"""


class Refused:
    """Counts refused requests. by_page: the playlist's address was found by a page."""

    def __init__(self, *, by_page: bool) -> None:
        """Nothing was refused yet."""
        self._codes = (*_REFUSED, *_GONE) if by_page else _REFUSED
        self._since: float | None = None
        self._forbidden, self._failing_since = 0, 0.0

    def playlist(self, error: CaptureError, *, asked_at: float, at_first: bool) -> str | None:
        """Note a playlist's error; return why to find the address again, else None."""
        if getattr(error, "status", None) not in self._codes:
            return None
        self._since = self._since or asked_at
        limit_s = _REFUSED_AT_FIRST_S if at_first else _REFUSED_S
        if asked_at - self._since < limit_s:
            return None
        return f"the source refused its playlist for {limit_s:g} s"

    def playlist_came(self) -> None:
        """Note that a playlist came."""
        self._since = None

    def segment(self, error: CaptureError) -> str | None:
        """Note a segment's error; return as `playlist` does."""
        self._failing_since = self._failing_since or time.monotonic()
        if getattr(error, "status", None) != 403:
            return None
        self._forbidden += 1
        if self._forbidden < _MAX_FORBIDDEN:
            return None
        return f"the source refused {self._forbidden} times"

    def segment_came(self) -> None:
        """Note that a segment came."""
        self._forbidden, self._failing_since = 0, 0.0

    @property
    def failing_s(self) -> float:
        """Seconds for which segments have failed, and none has come."""
        return time.monotonic() - self._failing_since if self._failing_since else 0.0
