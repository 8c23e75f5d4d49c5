"""Whether a segment that ends early is whole: a picture is held, or it was cut off."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flows.capture.hls.pending import HELD_UP_S, Pending, lacks
from flows.capture.recorded.media import TICKS_PER_S, Extent, ticks_from

_MIN_IN_A_ROW: Final = 3
"""So many segments in a row must go on with a count before it tells anything."""

_ROUNDED_S: Final = 0.5
"""Lengths in whole seconds may be off by so much."""

_MIN_SILENT_S: Final = 0.15
_MAX_SILENT_S: Final = 60.0
"""Sound that begins so long after the sound before does not go on; later, it says nothing."""

_LATELY: Final = 30
"""So many segments back, a held picture counts."""


class Endings:
    """Tells it by the next segment, and by what the segments around it are like.

    A segment whose pictures end early is recorded once the next one is there. If that goes on with
    the packager's counts, or with the sound, a picture is held; if it does not, something is
    missing. Where neither tells, a picture is held if others are: lately, in this segment, or at
    the end of the next. Nothing waits where pictures were held lately.
    """

    def __init__(self) -> None:
        """Nothing was recorded yet."""
        self._last: Pending | None = None
        self._last_is_cut = self._is_cut = self._shows_held = False
        self._counted: dict[int, int] = {}
        self._held_ago: int | None = None
        self._overstated_s = 0.0

    def settle(self, items: Sequence[Pending], *, wait_s: float) -> bool:
        """Return whether the first segment may be recorded now, its extent set by what is known.

        wait_s: how long it may wait for the next one, from when it was fetched. One that is cut off
        is to be fetched once more before, unless it may not wait.
        """
        item, extent = items[0], items[0].extent
        self._is_cut = self._shows_held = False
        if extent is None or not self._is_doubted(item, extent):
            return True
        after = items[1] if len(items) > 1 and _is_next(item, items[1]) else None
        lasts = None if after is None else _ticks_to(item, after)
        length_s = item.entry.duration_s if lasts is None else lasts / TICKS_PER_S
        if lasts is not None and not lacks(extent, length_s):
            item.extent = replace(extent, lasts=lasts)
            return True
        if extent.is_whole:
            if len(items) < 2 or items[1].extent is None:
                is_known = self._held_ago is not None and extent.sound_end is None
                waited_s = time.monotonic() - item.fetched_at
                if not is_known and waited_s < min(wait_s, HELD_UP_S):
                    return False
            told = None if after is None else self._told(item, after)
            if told and extent.hole is not None and lacks(replace(extent, hole=None), length_s):
                told = None  # it lacks frames twice: more likely, it goes on by chance
            if told or (told is None and self._are_held(item, extent, after)):
                self._shows_held = True
                item.extent = _held(extent, lasts)
                return True
            self._shows_held = told is None  # the second of two within a while will be held
        if wait_s and item.again is None and not item.unreadable:
            item.again = True
            return False
        self._is_cut = True
        item.extent = _cut(extent)
        return True

    def recorded(self, item: Pending) -> bool:
        """Take note of the segment that is recorded; return whether it was cut off."""
        last, extent = self._last, item.extent
        is_cut = self._is_cut
        self._counted = self._counts(item)
        lasts = None if last is None else _ticks_to(last, item)
        self._overstated_s = 0.0
        if last is not None and lasts is not None:
            self._overstated_s = max(0.0, last.entry.duration_s - lasts / TICKS_PER_S)
        if last is None or not _is_next(last, item):
            self._held_ago = None
        elif self._held_ago is not None:
            self._held_ago = self._held_ago + 1 if self._held_ago < _LATELY else None
        if extent is not None and not is_cut:
            is_cut = not extent.is_whole and lacks(extent, item.entry.duration_s)
            self._shows_held = self._shows_held or _is_uneven(extent)
        if self._shows_held:
            self._held_ago = 0
        self._last, self._last_is_cut = item, is_cut
        return is_cut

    def _is_doubted(self, item: Pending, extent: Extent) -> bool:
        """Return whether it ends earlier than the list says, by more than that was wrong before.

        Where there is sound, lengths may be in whole seconds: what is there is recorded, at once.
        """
        length_s = item.entry.duration_s - self._overstated_s
        is_rounded = extent.sound_end is not None and item.entry.duration_s % 1 == 0
        if is_rounded and extent.hole is None and not _is_uneven(extent):
            length_s -= _ROUNDED_S
        return lacks(extent, length_s)

    def _told(self, item: Pending, after: Pending) -> bool | None:
        """Return whether the next segment goes on with counts or sound; None if neither tells."""
        if item.extent is None or after.extent is None:
            return None
        ends, begins = item.extent.next_counters, after.extent.counters
        goes_on = [
            ends[each] == begins[each]
            for each, n in self._counts(item).items()
            if n >= _MIN_IN_A_ROW and each in ends and each in begins
        ]
        return all(goes_on) if goes_on else _goes_on_sounding(item.extent, after.extent)

    def _are_held(self, item: Pending, extent: Extent, after: Pending | None) -> bool:
        """Return whether pictures are held around here, as far as that is known."""
        if self._held_ago is not None or _is_uneven(extent):
            return True
        if after is None or after.extent is None:
            return self._last is None or not _is_next(self._last, item)
        return _is_uneven(after.extent) or lacks(after.extent, after.entry.duration_s)

    def _counts(self, item: Pending) -> dict[int, int]:
        """Return for how many segments in a row each count went on, up to this one."""
        last = self._last
        if last is None or last.extent is None or item.extent is None or not _is_next(last, item):
            return {}
        if self._last_is_cut:
            return self._counted
        return {
            each: self._counted.get(each, 0) + 1
            for each, counter in item.extent.counters.items()
            if last.extent.next_counters.get(each) == counter
        }


def _goes_on_sounding(extent: Extent, after: Extent) -> bool | None:
    """Return whether the sound goes on; None if that is not known, or says nothing."""
    if extent.sound_end is None or after.sound_first in (None, after.sound_end):
        return None
    silent_s = ticks_from(extent.sound_end, after.sound_first or 0) / TICKS_PER_S
    if abs(silent_s) > _MAX_SILENT_S:
        return None
    return silent_s <= _MIN_SILENT_S


def _is_next(before: Pending, item: Pending) -> bool:
    """Return whether both are there, and one is to go on where the other ends."""
    is_there = before.extent is not None and item.extent is not None
    return is_there and item.follows and not item.entry.discontinuity


def _ticks_to(item: Pending, after: Pending) -> int | None:
    """Return the time from a segment's first frame to the next one's, if the list agrees."""
    if item.extent is None or after.extent is None or not _is_next(item, after):
        return None
    ticks = ticks_from(item.extent.first, after.extent.first)
    most_s = 1.25 * item.entry.duration_s + _ROUNDED_S
    return ticks if 0 < ticks < most_s * TICKS_PER_S else None


def _is_uneven(extent: Extent) -> bool:
    return extent.longest > 3 * extent.interval


def _held(extent: Extent, lasts: int | None) -> Extent:
    """Return the extent of a segment whose last picture is held until the next one begins."""
    end = extent.end if lasts is None else max(extent.end, extent.first + lasts)
    return replace(extent, is_whole=True, hole=None, lasts=lasts, end=end)


def _cut(extent: Extent) -> Extent:
    """Return the extent of what is shown without a hole."""
    end = extent.end if extent.hole is None else extent.hole
    sound_end = None if extent.sound_end is None else min(extent.sound_end, end)
    return replace(extent, is_whole=False, hole=None, end=end, sound_end=sound_end)
