"""Keeps the stream behind a URL, and resolves it again when a capture needs that."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from flows.capture.segment import CaptureError, NotLive, SourceUnreachable
from flows.capture.source.operator.sources import BadSources
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)

_RENEW_BEFORE: Final = timedelta(minutes=15)
"""Time before a stream URL's expiry at which it is resolved again."""

_RENEW_AGE_S: Final = 60.0
"""Seconds that a stream URL is used at least, even if it expires soon."""


class CurrentStream:
    """Keeps a capture's stream until it fails or expires.

    resolve: finds the stream again. stream: the initial one. ended_after_s: seconds for which the
    site must state that the show is over. away_s: seconds that the show may be off air without such
    a statement, or that its playlist may have ended, and come back.
    """

    def __init__(
        self,
        resolve: Callable[[], Stream],
        *,
        stream: Stream | None,
        ended_after_s: float,
        away_s: float,
    ) -> None:
        """Keep the arguments; nothing is requested yet."""
        self._resolve, self._ended_after_s = resolve, ended_after_s
        self._away_s = max(away_s, ended_after_s)
        self._stream = stream
        self.known: Stream | None = None
        """The newest stream that was found."""
        self._not_live_since: float | None = None
        self._refusal: SourceUnreachable | None = None
        self._retry_at = 0.0

    def find(self, *, recorded: bool, note: Callable[[CaptureError], None]) -> Stream:
        """Return the stream; raises as `resolve`.

        recorded: there is a recording already; then the known stream is used while the page does
        not answer, or sources.toml has a mistake, and `note` is called with the reason. A server's
        Retry-After is respected.
        """
        if self._stream is None:
            try:
                if self._refusal is not None and time.monotonic() < self._retry_at:
                    raise self._refusal
                self._stream = self._resolve()
            except (SourceUnreachable, BadSources) as e:
                if isinstance(e, SourceUnreachable) and e is not self._refusal and e.backoff_s:
                    self._refusal, self._retry_at = e, time.monotonic() + e.backoff_s
                if self.known is None or not recorded:
                    raise
                note(e)
                self._stream = self.known
        self.known = self._stream
        return self._stream

    def forget(self) -> None:
        """Resolve the stream again next time."""
        self._stream = None

    @property
    def ended_after_s(self) -> float:
        """Seconds for which an end must be stated now: 0 if it was stated before."""
        return self._ended_after_s if self._not_live_since is None else 0.0

    def is_live(self) -> None:
        """Note that the stream delivered something."""
        self._not_live_since = None

    def is_final(self, end: NotLive, *, since: float) -> bool:
        """Return whether the source has ended for good; since: time of the request (monotonic).

        A site's statement counts after ended_after_s. An ended playlist counts after away_s, as an
        encoder that restarts ends its playlist, and only after the page was resolved again once.
        """
        resolve_first = self._not_live_since is None and end.ended_for_s > 0
        self._not_live_since = self._not_live_since or since
        wait_s = self._ended_after_s if end.final else self._away_s
        return time.monotonic() - self._not_live_since >= wait_s and not resolve_first


def expires(stream: Stream, *, since: float) -> bool:
    """Return whether to resolve a stream again; since: start of its use (monotonic)."""
    if stream.expires_at is None or time.monotonic() - since <= _RENEW_AGE_S:
        return False
    return datetime.now(UTC) > stream.expires_at - _RENEW_BEFORE
