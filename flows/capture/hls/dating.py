"""When a source's own segments were on air: by the dates in its playlist, as far as they are right.

A source that sets its clock, or whose dates fall a little short of its durations, loses no frame
and puts none twice.
"""

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from flows.capture.playlist import Entry
from flows.capture.recorded.media import TICKS_PER_S, Extent
from flows.capture.recorded.recording import SHORTEST, Recording, whole_ms

_log = logging.getLogger(__name__)

_CREDIBLE_JUMP: Final = timedelta(seconds=60)
"""A source may have been off air for this longer than nothing was recorded."""

_CREDIBLE_IN_A_ROW: Final = timedelta(seconds=5)
"""Its dates may jump by this where its numbers and its timestamps say that nothing is missing."""

_IN_A_ROW_TICKS: Final = TICKS_PER_S // 2


class Dates:
    """Dates segments in the order in which they are recorded."""

    def __init__(self, recording: Recording) -> None:
        """Go on after what is recorded."""
        self._recording = recording
        self._shift = timedelta(0)
        self._wobble = timedelta(0)
        self._interval = TICKS_PER_S
        self._ticks: int | None = None

    def watch_wobble(self, entries: tuple[Entry, ...]) -> None:
        """Note by how much dates fall short of the durations before them."""
        for before, after in pairwise(entries):
            if before.end and after.date and not after.discontinuity:
                early = before.end - after.date
                if self._wobble < early < SHORTEST:
                    self._wobble = early

    def of(
        self, entry: Entry, extent: Extent, *, arrival: datetime, follows: bool, repeats: bool
    ) -> tuple[datetime, datetime, bool]:
        """Return the dates of start and end, and whether they are estimated.

        The source dates a segment's first frame (RFC 8216, 4.3.2.6). Without a date, segments
        follow each other; the first, and one after something missing, by when it was published.
        arrival: when it was published, less its length. follows: nothing is missing before it.
        repeats: it may be recorded already, in whole or in part.
        """
        last = self._recording.last
        media = timedelta(seconds=(extent.end - extent.first) / TICKS_PER_S)
        usual = timedelta(seconds=entry.duration_s) or media
        # A few frames that are left of a segment say little of the rate.
        self._interval = min(self._interval, extent.interval)
        hole = timedelta(seconds=(max(3 * self._interval, extent.longest) / TICKS_PER_S) + 0.1)
        length = media if media < usual - hole else usual
        if entry.date is None:
            if abs(media - usual) < timedelta(seconds=0.6):
                length = media
            start = arrival
            if last is not None:
                start = last.end if follows else max(start, last.end)
            return whole_ms(start), whole_ms(start + length), True
        ticks, self._ticks = self._ticks, extent.end
        in_a_row = follows and ticks is not None and abs(extent.first - ticks) < _IN_A_ROW_TICKS
        start = entry.date
        start += self._shift if repeats else self._true_shift(entry.date, in_a_row=in_a_row)
        if length == usual:
            interval = timedelta(seconds=extent.interval / TICKS_PER_S)
            length -= min(self._wobble, interval * 0.9)
        return whole_ms(start), whole_ms(start + length), self._shift != timedelta(0)

    def _true_shift(self, date: datetime, *, in_a_row: bool) -> timedelta:
        """Return by how much the source's clock is wrong, going by what was recorded."""
        last = self._recording.last
        if last is None:
            return self._shift
        idle = self._recording.idle
        credible = timedelta.max if idle is None else _CREDIBLE_JUMP + idle
        if in_a_row:
            credible = _CREDIBLE_IN_A_ROW
        for shift in (timedelta(0), self._shift):
            if -SHORTEST < date + shift - last.end <= credible:
                self._shift = shift
                return shift
        self._shift = last.end - date
        _log.warning("the source's clock jumped by %s", -self._shift)
        return self._shift
