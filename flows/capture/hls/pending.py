"""A listed segment until it is recorded: fetched, retried, or given up with a reason."""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from flows.capture.hls.aligning import name_of
from flows.capture.hls.pieces import Pieces
from flows.capture.playlists.playlist import MAX_ADDRESS_CHARS, MAX_ENTRIES, Entry
from flows.capture.recorded.media import TICKS_PER_S, Extent, can_decode, ends_whole, measure
from flows.capture.redaction import shorten
from flows.capture.segment import CaptureError, NoStream, UnreadableMedia

_log = logging.getLogger(__name__)

HELD_UP_S: Final = 15.0
"""Seconds that a listed segment which fails holds up those after it."""

MAX_WAITING: Final = MAX_ENTRIES
MAX_WAITING_CHARS: Final = MAX_ADDRESS_CHARS
"""Most listed segments that wait to be fetched, and most characters of their addresses: as in one
playlist, which may not have been read for hours.
"""

_MAX_LOST: Final = 3
_MAX_LOST_AT_FIRST: Final = 2
_LAST: Final = 12
_LOST_S: Final = 3.0
"""Consecutive unreadable segments, and their seconds, after which a stream is unreadable."""

_MIN_SHORT_S: Final = 0.1
"""A segment that is shorter by less is not doubted."""

_MAX_UNREADABLE: Final = 3
_MAX_MISSING: Final = 5
_OTHER_LENGTH: Final = 0.15
"""Share by which the length of fMP4 is off where its times may be in another unit."""

_AHEAD: Final = 32
"""Most segments that are fetched while an earlier one can't be."""


@dataclass(kw_only=True, slots=True)
class Pending:
    """A listed segment that is not recorded yet.

    arrival: when it was published, as far as is known, less its length: its date where the source
    gives none. follows: nothing is missing between it and the one before. repeats: it may be
    recorded already, in whole or in part. unsure: only its media tells whether it is: the number of
    its playlist among those of which this is so, else 0. place: among all that was ever listed
    (`Listing`). period: counts where its initialisation section may be another. is_ad: as the
    source says. again: it is to be fetched once more, though it was (False once that was done).
    """

    entry: Entry
    arrival: datetime
    follows: bool
    repeats: bool
    unsure: int = 0
    place: int = -1
    period: int = 0
    is_ad: bool | None = None
    listed: bool = True
    path: Path | None = None
    extent: Extent | None = None
    head_bytes: int | None = None
    tries: int = 0
    unreadable: int = 0
    missing: int = 0
    failing_since: float | None = None
    try_at: float = 0.0
    error: str = ""
    fetched_at: float = 0.0
    failed_at: float = 0.0
    n_bytes: int = 0
    again: bool | None = None

    def fetch(self, pieces: Pieces, path: Path) -> None:
        """Write it to this file, and set the suffix by its format.

        Nothing is left of it where it raises: what `Pieces.fetch` and `measure` do, and
        UnreadableMedia for one that ends before its time, the first times. What was fetched before
        is kept then, and deleted otherwise.
        """
        before = self.path
        self.again = None if self.again is None else False
        try:
            head_bytes = pieces.fetch(self.entry, path, period=self.period)
            extent = measure(path, fragmented=head_bytes is not None)
            opens = head_bytes is None or (_fits(extent, self.entry) and can_decode(path))
            if not opens and pieces.renew(self.entry, period=self.period):
                head_bytes = pieces.fetch(self.entry, path, period=self.period)
                extent = measure(path, fragmented=head_bytes is not None)
            if not extent.is_whole and lacks(extent, self.entry.duration_s):
                # One picture in 184 that is whole does not look so.
                is_whole = ends_whole(path, fragmented=head_bytes is not None)
                extent = replace(extent, is_whole=is_whole)
                if not is_whole and self._lacks_much(extent):
                    raise UnreadableMedia(self.ends_early)
        except UnreadableMedia:
            path.unlink(missing_ok=True)
            pieces.forget(self.entry)
            raise
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        suffix = ".ts" if head_bytes is None else ".mp4"
        self.head_bytes, self.fetched_at = head_bytes, time.monotonic()
        self.n_bytes = path.stat().st_size
        self.path, self.extent = path.rename(path.with_suffix(suffix)), extent
        if before is not None:
            before.unlink(missing_ok=True)

    def _lacks_much(self, extent: Extent) -> bool:
        """Return whether to fetch it again at once; durations may be in whole seconds."""
        if self.unreadable >= _MAX_UNREADABLE - 1:
            return False
        media_s, listed_s = max(extent.video_s, extent.sound_s or 0.0), self.entry.duration_s
        slack_s = 3 * extent.interval / TICKS_PER_S + (0.5 if listed_s % 1 == 0 else 0.0)
        return media_s < 0.75 * listed_s - slack_s

    def discard(self) -> None:
        """Delete its file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def ends_early(self) -> str:
        """What to say of it where it is cut off."""
        return f"{name_of(self.entry)} ends before its time"

    def fail(self, error: CaptureError, *, target_s: float) -> None:
        """Count a failure and say when to try again."""
        self.failed_at = now = time.monotonic()
        self.tries += 1
        self.failing_since = self.failing_since or now
        is_gone = getattr(error, "status", None) in (404, 410)
        if not (is_gone and self.error):  # what failed first is why it was still wanted by then
            self.error = str(error)
        wait_s = min(getattr(error, "retry_after_s", None) or 0.0, HELD_UP_S)
        self.try_at = now + max(wait_s, min(0.1 * 2**self.tries, target_s, 2.0))
        self.unreadable += isinstance(error, (UnreadableMedia, NoStream))
        self.missing += is_gone

    def is_lost(self, *, others: bool, target_s: float) -> bool:
        """Return whether to give it up; others: later ones were fetched before it last failed."""
        if self.entry.missing:
            self.error = "the source says that it is missing"
            return True
        if self.unreadable >= _MAX_UNREADABLE or (self.tries and not self.listed):
            return True
        failing_s = time.monotonic() - (self.failing_since or time.monotonic())
        if self.missing >= _MAX_MISSING and others and failing_s > 2 * target_s:
            return True
        return others and failing_s > max(HELD_UP_S, 6 * target_s)


def due(items: Iterable[Pending]) -> Pending | None:
    """Return the segment to fetch now, if there is one."""
    now = time.monotonic()
    for item in islice(items, _AHEAD):
        wanted = item.path is None or item.again
        if wanted and item.try_at <= now and not item.entry.missing:
            return item
    return None


class Losses:
    """Counts consecutive segments that could not be read."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.has_recorded = False
        self._n, self._since, self._why = 0, 0.0, ""
        self._last: deque[bool] = deque(maxlen=_LAST)

    def lost(self, item: Pending) -> None:
        """Count a segment that was given up."""
        if item.unreadable:
            self._since = self._since if self._n else time.monotonic()
            self._n += 1
            self._last.append(True)
            self._why = item.error

    def recorded(self) -> None:
        """Note a recorded segment."""
        self.has_recorded, self._n = True, 0
        self._last.append(False)

    @property
    def unreadable(self) -> str | None:
        """Why segments can't be read, after several in a row, or half of the last; else None."""
        if sum(self._last) >= _LAST // 2:
            return f"our engine could read nothing of {sum(self._last)} segments ({self._why})"
        enough = _MAX_LOST if self.has_recorded else _MAX_LOST_AT_FIRST
        if self._n < enough or time.monotonic() - self._since < _LOST_S:
            return None
        return f"our engine could read nothing of {self._n} segments ({self._why})"


class Room:
    """Limits what waits to be fetched; logs once when the limit is reached."""

    def __init__(self) -> None:
        """Be empty."""
        self._is_full = False

    def takes(self, waiting: Collection[Pending], new: Collection[Entry], *, url: str) -> bool:
        """Return whether these may be queued too; else they count as new at the next poll.

        url: of the playlist that lists them.
        """
        n_chars = sum(len(each.entry.url) for each in waiting) + sum(len(e.url) for e in new)
        room = len(waiting) + len(new) <= MAX_WAITING and n_chars <= MAX_WAITING_CHARS
        if not room and not self._is_full:
            _log.warning(
                "%s lists %d new segments while %d wait to be fetched: too many, taken later",
                shorten(url),
                len(new),
                len(waiting),
            )
        self._is_full = not room or (self._is_full and bool(waiting))
        return room


def lacks(extent: Extent, length_s: float) -> bool:
    """Return whether a segment is shorter than this by more than its pictures are apart."""
    if extent.hole is not None:
        return length_s > (extent.hole - extent.first) / TICKS_PER_S + _MIN_SHORT_S
    longest = extent.longest if extent.sound_end is None else 0
    slack_s = max(3 * extent.interval, longest) / TICKS_PER_S + _MIN_SHORT_S
    return length_s > max(extent.video_s, extent.sound_s or 0.0) + slack_s


def _fits(extent: Extent, entry: Entry) -> bool:
    """Return whether an fMP4 segment looks as with its own initialisation section."""
    off_s = abs(extent.video_s - entry.duration_s)
    return extent.begins_with_key and off_s <= _OTHER_LENGTH * entry.duration_s
