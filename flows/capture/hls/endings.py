"""Whether a segment that ends early is whole: a picture is held, or it was cut off."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flows.capture.hls.pending import HELD_UP_S, Pending
from flows.capture.recorded.media import TICKS_PER_S, Extent

_MIN_IN_A_ROW: Final = 2
"""So many segments in a row must go on with the counters before these tell anything."""

_MIN_SHORT_S: Final = 0.1
"""A segment that is shorter by less is not doubted."""


class Endings:
    """Tells it by the counters of the packager, where it counts through its segments.

    A segment without sound whose pictures end early is recorded once the next one is there: where
    that goes on with the counters, a picture is held; else something is missing between the two.
    Nothing waits where the last picture is cut, where counters tell nothing, and where pictures are
    held again and again.
    """

    def __init__(self) -> None:
        """Nothing was recorded yet."""
        self._last: Extent | None = None
        self._in_a_row, self._holds_pictures = 0, False

    def settle(self, items: Sequence[Pending], *, wait_s: float) -> bool:
        """Return whether the first segment may be recorded now, its extent set by what is known.

        wait_s: how long it may wait for the next one, from when it was fetched. One that is cut off
        is to be fetched once more before, unless it may not wait.
        """
        item = items[0]
        extent = item.extent
        if extent is None or extent.sound_end is not None or not _is_short(item, extent):
            return True
        is_held = False
        if extent.is_whole or self._holds_pictures:
            if self._in_a_row < _MIN_IN_A_ROW or not _goes_on(self._last, item):
                return True
            after = items[1] if len(items) > 1 else None
            if after is None or after.extent is None:
                is_known = self._holds_pictures and extent.is_whole
                return is_known or time.monotonic() - item.fetched_at >= min(wait_s, HELD_UP_S)
            if not after.follows or after.entry.discontinuity or after.extent.counter is None:
                return True
            is_held = after.extent.counter == extent.next_counter
        if not is_held and wait_s and item.again is None and not item.unreadable:
            item.again = True
            return False
        self._holds_pictures = is_held
        item.extent = replace(extent, is_whole=is_held)
        return True

    def recorded(self, item: Pending) -> bool:
        """Take note of the segment that is recorded; return whether it was cut off."""
        last, extent = self._last, item.extent
        if not _goes_on(last, item):
            self._in_a_row = 0
        elif last and extent and extent.counter == last.next_counter:
            self._in_a_row += 1
        self._last = extent
        return extent is not None and not extent.is_whole and _is_short(item, extent)


def _goes_on(last: Extent | None, item: Pending) -> bool:
    """Return whether a segment goes on with the counters of the last one, as far as that came."""
    if last is None or item.extent is None or not item.follows or item.entry.discontinuity:
        return False
    counter = item.extent.counter
    return counter is not None and (counter == last.next_counter or not last.is_whole)


def _is_short(item: Pending, extent: Extent) -> bool:
    """Return whether it is shorter than listed by more than its pictures are apart."""
    media_s = max(extent.video_s, extent.sound_s or 0.0)
    slack_s = max(3 * extent.interval, extent.longest) / TICKS_PER_S + _MIN_SHORT_S
    return item.entry.duration_s > media_s + slack_s
