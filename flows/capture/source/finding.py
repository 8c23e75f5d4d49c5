"""The stream behind a URL, found again as often as a capture needs it."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from flows.capture.segment import CaptureError, NotLive, SourceUnreachable
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)

_RENEW_BEFORE: Final = timedelta(minutes=15)
"""A stream's address is found again so long before it expires."""

_RENEW_AGE_S: Final = 60.0
"""An address that was as near its end when it was new is used at least so long."""


class Finding:
    """Keeps a capture's stream: the one it began with, until that fails or expires.

    resolve: finds the stream anew. stream: the one to begin with. ended_after_s: for so long the
    site must say that the show is over. away_s: for so long it may be off air without saying that,
    or its playlist have ended, and come back.
    """

    def __init__(
        self,
        resolve: Callable[[], Stream],
        *,
        stream: Stream | None,
        ended_after_s: float,
        away_s: float,
    ) -> None:
        """Keep the arguments; nothing is asked yet."""
        self._resolve, self._ended_after_s = resolve, ended_after_s
        self._away_s = max(away_s, ended_after_s)
        self._stream = stream
        self.known: Stream | None = None
        """The last that was found."""
        self._not_live_since: float | None = None
        self._refusal: SourceUnreachable | None = None
        self._ask_at = 0.0

    def find(self, *, recorded: bool, note: Callable[[CaptureError], None]) -> Stream:
        """Return the stream; raises as `resolve`.

        recorded: there is a recording already. Then the one that is known does while the page does
        not answer; `note` is called with the reason. A server that wants to be left alone is not
        asked before the time that it has named.
        """
        if self._stream is None:
            try:
                if self._refusal is not None and time.monotonic() < self._ask_at:
                    raise self._refusal
                self._stream = self._resolve()
            except SourceUnreachable as e:
                if e is not self._refusal and e.backoff_s:
                    self._refusal, self._ask_at = e, time.monotonic() + e.backoff_s
                if self.known is None or not recorded:
                    raise
                note(e)
                self._stream = self.known
        self.known = self._stream
        return self._stream

    def forget(self) -> None:
        """Find it anew next time."""
        self._stream = None

    @property
    def ended_after_s(self) -> float:
        """For how long a source must say now that it has ended: not again if it did before."""
        return self._ended_after_s if self._not_live_since is None else 0.0

    def is_live(self) -> None:
        """Take note that it brought something."""
        self._not_live_since = None

    def believes(self, end: NotLive, *, since: float) -> bool:
        """Return whether the source has ended for good; since: when it was asked (monotonic).

        The site is believed soon. A playlist that says so for long is doubted once: the page may
        know of another; and then waited for, as an encoder that starts again ends its playlist.
        """
        doubted = self._not_live_since is None and end.ended_for_s > 0
        self._not_live_since = self._not_live_since or since
        patience_s = self._ended_after_s if end.final else self._away_s
        return time.monotonic() - self._not_live_since >= patience_s and not doubted


def expires(stream: Stream, *, since: float) -> bool:
    """Return whether to find a stream anew that has been used since then (monotonic)."""
    if stream.expires_at is None or time.monotonic() - since <= _RENEW_AGE_S:
        return False
    return datetime.now(UTC) > stream.expires_at - _RENEW_BEFORE
