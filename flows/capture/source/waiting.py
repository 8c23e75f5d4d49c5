"""Waits for a show to begin; polls less often the further away its start is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from flows.capture.segment import (
    CaptureError,
    NotLive,
    ShowMissed,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source.by_itself import is_playlist_url
from flows.capture.stream import Stream

DOUBTED_S: Final = 15.0
"""A site that says that a show is over is believed after so long, where it was on air before."""

MIN_PAUSE_S: Final = 5.0
_MAX_BEFORE_S: Final = 300.0
_MAX_AFTER_S: Final = 60.0
_NOT_THERE: Final = (404, 410)
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """State of a wait: the reason, the announced start and the end of the wait (aware UTC)."""

    why: str
    starts_at: datetime | None
    give_up_at: datetime


def wait_for_show(
    url: str,
    find: Callable[[], Stream],
    *,
    give_up_after: timedelta,
    on_waiting: Callable[[Waiting], None],
    pause: Callable[[float], None] = time.sleep,
    was_on_air: bool = False,
) -> Stream:
    """Call `find` until it returns the stream; retries on NotLive, unless the show is over.

    Also retries while a playlist does not exist yet or its server fails, and, once the show was
    announced, while the site is unreachable. A server's Retry-After is respected. on_waiting:
    called at first, and when the state changes. pause: waits between two calls; an exception of it
    ends the wait. The stream says when the show was last seen off the air.
    was_on_air: it was recorded before, by a process that died; then other errors are retried for a
    while, too, as in a running capture.

    Raises ShowMissed if the show does not begin within give_up_after, or is announced for later;
    else what `find` raises.
    """
    began = datetime.now(UTC)
    least = timedelta(seconds=DOUBTED_S if was_on_air else 0.0)
    give_up_at = began + max(give_up_after, least)
    over_since: float | None = None
    reported: Waiting | None = None
    starts_at: datetime | None = None
    off_air_at = 0.0
    while True:
        asked_at = time.monotonic()
        try:
            return replace(find(), off_air_at=off_air_at)
        except CaptureError as e:
            cause = e
            backoff_s = _retry_after_s(e)
            is_wanted = 0 < backoff_s <= (give_up_at - datetime.now(UTC)).total_seconds()
            is_over = isinstance(e, NotLive) and e.final
            over_since = (over_since or time.monotonic()) if is_over else None
            doubted = over_since is None or time.monotonic() - over_since < DOUBTED_S
            retries = was_on_air and doubted and not isinstance(e, UnsafeURL)
            if not (is_wanted or retries or _may_begin(e, url, waited=reported is not None)):
                raise
        if isinstance(cause, NotLive):
            starts_at = cause.starts_at
        if isinstance(cause, NotLive) or getattr(cause, "status", None) in _NOT_THERE:
            off_air_at = asked_at
        now = datetime.now(UTC)
        if starts_at is not None and starts_at > give_up_at and give_up_after:
            raise ShowMissed(
                f"{cause}, which is after the end of the wait at {_clock(give_up_at)}; "
                "increase give_up_after",
                starts_at=starts_at,
            ) from cause
        if now >= give_up_at:
            waited = f"; waited until {_clock(give_up_at)}" if give_up_after else ""
            raise ShowMissed(f"{cause}{waited}", starts_at=starts_at) from cause
        known = Waiting(why=str(cause), starts_at=starts_at, give_up_at=give_up_at)
        if known != reported:
            on_waiting(known)
            reported = known
        wait_s = pause_s(now, expected=starts_at or began, give_up_at=give_up_at)
        if isinstance(cause, NotLive) and is_playlist_url(url):
            wait_s = min(wait_s, MIN_PAUSE_S)  # later, its first segments may have left it
        pause(max(wait_s, backoff_s))


def pause_s(now: datetime, *, expected: datetime, give_up_at: datetime) -> float:
    """Return the seconds to the next poll: the fewer, the nearer the expected start is."""
    left_s = (expected - now).total_seconds()
    wait_s = min(left_s / 2, _MAX_BEFORE_S) if left_s > 0 else min(-left_s / 8, _MAX_AFTER_S)
    end_s = max(0.0, (give_up_at - now).total_seconds())
    return min(max(wait_s, MIN_PAUSE_S), end_s)


def _retry_after_s(error: CaptureError) -> float:
    """Return the seconds of the server's Retry-After; 0 without one."""
    if not isinstance(error, SourceUnreachable) or error.retry_after_s is None:
        return 0.0
    return error.backoff_s


def _may_begin(error: CaptureError, url: str, *, waited: bool) -> bool:
    """Return whether a show may still begin at a URL that gives this error."""
    if isinstance(error, NotLive):
        return not error.over
    if not isinstance(error, SourceUnreachable):
        return False
    # A missing page is a wrong URL; a missing playlist may appear later.
    is_early = error.status in _NOT_THERE or (error.status or 0) >= _SERVER_ERROR
    return waited or (is_playlist_url(url) and is_early)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S} UTC"
