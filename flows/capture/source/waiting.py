"""Waits for a show that has not begun: asks seldom while it is far off, often when it is due."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from flows.capture.segment import (
    CaptureError,
    NotLive,
    ShowMissed,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.stream import Stream

DOUBTED_S: Final = 15.0
"""A site that says that a show is over is believed after so long, where it was on air before."""

MIN_PAUSE_S: Final = 5.0
_MAX_BEFORE_S: Final = 300.0
_MAX_AFTER_S: Final = 60.0
_PLAYLISTS: Final = (".m3u8", ".m3u", ".mpd")
_NOT_THERE: Final = (404, 410)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """What is known while waiting: why, the announced start and the last moment (aware UTC)."""

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
    """Return the stream as soon as `find` does: NotLive is waited out, unless the show is over.

    So is a playlist that is not there yet, and, once the site has said that the show is to come,
    one that does not answer for a moment. A server that says when it wants to be asked again is
    asked then. tell: called at first, and when what is known changes.
    pause: waits between two looks; what it raises ends the wait. was_on_air: it is one that was
    recorded already, by a process that died; whatever is wrong may be so for a moment then, as it
    is for a capture that runs.

    Raises ShowMissed when the show has not begun after so long, or is announced for later; else
    what `find` raises.
    """
    began = datetime.now(UTC)
    least = timedelta(seconds=DOUBTED_S if was_on_air else 0.0)
    give_up_at = began + max(give_up_after, least)
    over_since: float | None = None
    told: Waiting | None = None
    starts_at: datetime | None = None
    while True:
        try:
            return find()
        except CaptureError as e:
            cause = e
            backoff_s = _named_s(e)
            is_asked_for = 0 < backoff_s <= (give_up_at - datetime.now(UTC)).total_seconds()
            is_over = isinstance(e, NotLive) and e.final
            over_since = (over_since or time.monotonic()) if is_over else None
            doubted = over_since is None or time.monotonic() - over_since < DOUBTED_S
            goes_on = was_on_air and doubted and not isinstance(e, UnsafeURL)
            if not (is_asked_for or goes_on or _may_begin(e, url, waited=told is not None)):
                raise
        if isinstance(cause, NotLive):
            starts_at = cause.starts_at
        now = datetime.now(UTC)
        if starts_at is not None and starts_at > give_up_at and give_up_after:
            raise ShowMissed(
                f"{cause}, and it is waited for until {_clock(give_up_at)} only; "
                "set give_up_after to more",
                starts_at=starts_at,
            ) from cause
        if now >= give_up_at:
            waited = f"; it was waited for until {_clock(give_up_at)}" if give_up_after else ""
            raise ShowMissed(f"{cause}{waited}", starts_at=starts_at) from cause
        known = Waiting(why=str(cause), starts_at=starts_at, give_up_at=give_up_at)
        if known != told:
            on_waiting(known)
            told = known
        wait_s = pause_s(now, expected=starts_at or began, give_up_at=give_up_at)
        pause(max(wait_s, backoff_s))


def pause_s(now: datetime, *, expected: datetime, give_up_at: datetime) -> float:
    """Return how long not to look: less the nearer the expected start, before it and after it."""
    left_s = (expected - now).total_seconds()
    wait_s = min(left_s / 2, _MAX_BEFORE_S) if left_s > 0 else min(-left_s / 8, _MAX_AFTER_S)
    end_s = max(0.0, (give_up_at - now).total_seconds())
    return min(max(wait_s, MIN_PAUSE_S), end_s)


def _named_s(error: CaptureError) -> float:
    """Return in how many seconds a server has said that it may be asked again; 0 if it has not."""
    if not isinstance(error, SourceUnreachable) or error.retry_after_s is None:
        return 0.0
    return error.backoff_s


def _may_begin(error: CaptureError, url: str, *, waited: bool) -> bool:
    """Return whether a show may be on air later at an address that says this."""
    if isinstance(error, NotLive):
        return not error.over
    if not isinstance(error, SourceUnreachable):
        return False
    # A page that is not there is a wrong address; a playlist may be yet to come.
    is_playlist = urlsplit(url).path.endswith(_PLAYLISTS)
    return waited or (is_playlist and error.status in _NOT_THERE)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S} UTC"
