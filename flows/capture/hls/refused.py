"""When a source refuses an address for so long, or so often, that it may have another by now."""

from typing import Final

from flows.capture.segment import CaptureError

_REFUSED: Final = (401, 403)
_GONE: Final = (404, 410)

_MAX_FORBIDDEN: Final = 3
_REFUSED_S: Final = 2.0
_REFUSED_AT_FIRST_S: Final = 6.0
"""A playlist that is refused for so long may have another address by now; the second, for one that
this run has never seen: its address has just been found.
"""


class Refused:
    """Counts what is refused. by_page: the playlist's address was found by a page."""

    def __init__(self, *, by_page: bool) -> None:
        """Nothing was refused yet."""
        self._codes = (*_REFUSED, *_GONE) if by_page else _REFUSED
        self._since: float | None = None
        self._forbidden = 0

    def playlist(self, error: CaptureError, *, asked_at: float, at_first: bool) -> str | None:
        """Take note that it did not come; return why the address is to be found again, if so."""
        if getattr(error, "status", None) not in self._codes:
            return None
        self._since = self._since or asked_at
        limit_s = _REFUSED_AT_FIRST_S if at_first else _REFUSED_S
        if asked_at - self._since < limit_s:
            return None
        return f"the source refused its playlist for {limit_s:g} s"

    def playlist_came(self) -> None:
        """Take note that it came."""
        self._since = None

    def segment(self, error: CaptureError) -> str | None:
        """Take note that a segment did not come; return as `playlist` does."""
        if getattr(error, "status", None) != 403:
            return None
        self._forbidden += 1
        if self._forbidden < _MAX_FORBIDDEN:
            return None
        return f"the source refused {self._forbidden} times"

    def segment_came(self) -> None:
        """Take note that it came."""
        self._forbidden = 0
