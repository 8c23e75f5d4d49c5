"""When segments of the HLS engine were on air: by their playlist's dates, if plausible.

No frame is lost or repeated if a source resets its clock, or if its dates advance a little less
than its durations.
"""

import logging
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.media import TICKS_PER_S, Extent, ticks_from
from flows.capture.recorded.recording import MIN_GAP, Recording, whole_ms

_log = logging.getLogger(__name__)

_CREDIBLE_JUMP: Final = timedelta(seconds=60)
"""Most that a source may have been off air longer than the recording paused."""

_CREDIBLE_IN_A_ROW: Final = timedelta(seconds=5)
"""Largest jump of dates that is ignored if numbers and timestamps are continuous."""

CREDIBLE_EDGE: Final = timedelta(minutes=30)
"""Most that the newest segment's date may be off; a wrong time zone is an hour off or more."""

NOT_BELIEVED: Final = (
    "the source dates what is on air now %s: not believed, dates are estimated from arrival; if it"
    " is a time-shifted channel, put its slug into SHOWMOOD_TIME_SHIFTED (docs/sources.md)"
)

_MAX_BREAK: Final = timedelta(minutes=10)
"""Most that dates may step back after advertisements, which have none or other ones."""

_IN_A_ROW: Final = timedelta(seconds=0.5)
_HELD: Final = timedelta(seconds=0.3)
"""Most by which a last picture may have been held longer than the end of its segment says."""

_WAVERING: Final = timedelta(seconds=1)
"""Most that dates vary while timestamps are continuous."""

_MAX_MISSING_S: Final = 60.0
"""Most that may be missing between two segments that are listed one after the other."""

_ROUNDING: Final = timedelta(milliseconds=2)
_LATE: Final = timedelta(seconds=30)
"""Longest delay from a segment's publication to its discovery, if polling was not interrupted."""


_ENOUGH: Final = 8
"""So many segments in a row must be filled by their video again after one that was not."""


class Dates:
    """Dates segments in the order in which they are recorded.

    time_shifted: what the source shows was on air hours ago, and its dates say so.
    """

    def __init__(self, recording: Recording, *, time_shifted: bool = False) -> None:
        """Continue the recording."""
        self._recording, self._time_shifted = recording, time_shifted
        self._shift = timedelta(0)
        self._wobble = timedelta(0)
        self._interval = TICKS_PER_S
        self._last: Extent | None = None
        self._filled_in_a_row: int | None = None
        self._start: datetime | None = None
        self._end: datetime | None = None
        self._listed_s = 0.0
        self._jumped = False

    def look_at_edge(self, edge: datetime | None, *, before: timedelta | None) -> None:
        """Check the dates by that of the live edge, the end of the newest, when it is first seen.

        before: by how much the recording's dates were later than the source's, if that is known.
        """
        now = datetime.now(UTC)
        if edge is None or self._time_shifted or abs(now - edge) < CREDIBLE_EDGE:
            return
        self._shift = now - edge
        if before is not None and abs(before - self._shift) < _CREDIBLE_JUMP:
            self._shift = before
        _log.warning(NOT_BELIEVED, edge.isoformat(timespec="seconds"))

    def watch_wobble(self, entries: tuple[Entry, ...]) -> None:
        """Note by how much dates fall short of the durations before them."""
        for before, after in pairwise(entries):
            if before.end and after.date and not after.discontinuity:
                early = before.end - after.date
                if self._wobble < early < MIN_GAP:
                    self._wobble = early

    def of(
        self,
        entry: Entry,
        extent: Extent,
        *,
        arrival: datetime,
        follows: bool,
        repeats: bool,
        is_ad: bool | None = None,
    ) -> tuple[datetime, datetime, bool]:
        """Return the dates of start and end, and whether they are estimated.

        The source dates a segment's first frame (RFC 8216, 4.3.2.6). Without a date, segments
        follow each other; the first, and one after something missing, by when it was published.
        arrival: when it was published, less its length. follows: nothing is missing before it.
        repeats: it may be recorded already, in whole or in part.
        """
        last = self._recording.last
        since = self._since_last(extent)
        in_a_row = follows and since is not None and abs(since) < _IN_A_ROW
        length = self._length(entry, extent, in_a_row=in_a_row)
        step = None if self._last is None else ticks_from(self._last.first, extent.first)
        self._last = extent
        if entry.date is None:
            start = arrival
            if last is not None:
                after = max(self._after(arrival, since), last.end)
                start = self._later(step, self._end or last.end) if follows else after
            self._listed_s = entry.duration_s
            self._start, self._end = start, start + length
            return whole_ms(start), whole_ms(self._end), True
        # The source dates the first packet.
        date = entry.date - timedelta(seconds=extent.early / TICKS_PER_S)
        start = date
        after_ad = last is not None and bool(last.is_ad) and not is_ad
        start += (
            self._shift if repeats else self._true_shift(date, in_a_row=in_a_row, after_ad=after_ad)
        )
        if in_a_row and since is not None and abs(since) < MIN_GAP:
            start = self._steady(start, step)
        self._start, self._end = start, start + length
        return whole_ms(start), whole_ms(self._end), self._shift != timedelta(0)

    def _steady(self, start: datetime, step: int | None) -> datetime:
        """Return the start of a segment whose timestamps continue those of the one before.

        step: between their first frames, in ticks.

        That is the end of that one if dates are rounded, vary, or are sums of rounded durations: an
        earlier date would make frames count as repeated.
        """
        end = self._end
        if end is None or self._start is None or step is None:
            return start
        off = start - end
        if -MIN_GAP < off < -_ROUNDING:
            self._wobble = max(self._wobble, -off)
            return end
        by_timestamps = self._start + timedelta(seconds=step / TICKS_PER_S)
        agree = abs(start - by_timestamps) <= _ROUNDING
        if abs(off) <= _ROUNDING or MIN_GAP <= abs(off) < (_HELD if agree else _WAVERING):
            return end
        return start

    def _later(self, step: int | None, end: datetime) -> datetime:
        """Return the end of the last segment, or where this one begins if something is missing.

        step: between their first frames, in ticks; it is believed as far as the list agrees.
        """
        if self._start is None or step is None:
            return end
        start = self._start + timedelta(seconds=step / TICKS_PER_S)
        most = end + timedelta(seconds=min(self._listed_s, _MAX_MISSING_S))
        return start if end + MIN_GAP <= start <= most else end

    def _since_last(self, extent: Extent) -> timedelta | None:
        """Return how long after the end of the last segment this one begins, by timestamps."""
        if self._last is None:
            return None
        return timedelta(seconds=ticks_from(self._last.end, extent.first) / TICKS_PER_S)

    def _after(self, arrival: datetime, since: timedelta | None) -> datetime:
        """Return the start of a segment after a gap: by timestamps if they are usable."""
        last = self._recording.last
        if last is None or since is None or since < timedelta(0):
            return arrival
        expected = last.end + since
        return expected if abs(expected - arrival) < _LATE else arrival

    def _length(self, entry: Entry, extent: Extent, *, in_a_row: bool) -> timedelta:
        """Return how long a segment is: by its video, if that lasts until its end.

        If not, a picture is held, or the segment is cut off: then by its audio or the playlist.
        """
        before = self._last
        if in_a_row and before is not None:
            step = ticks_from(before.first, extent.first)
            fills = abs(step - (before.end - before.first)) <= 2 * before.interval
            if not fills:
                self._filled_in_a_row = 0
            elif self._filled_in_a_row is None:
                self._filled_in_a_row = _ENOUGH
            else:
                self._filled_in_a_row += 1
        video_fills = (self._filled_in_a_row or 0) >= _ENOUGH
        # A few frames give no reliable rate.
        self._interval = min(self._interval, extent.interval)
        frame_s = self._interval / TICKS_PER_S
        video_s, sound_s = extent.video_s, extent.sound_s
        usual_s = entry.duration_s or video_s
        hole_s = max(3 * frame_s, extent.longest / TICKS_PER_S) + 0.1
        stated_s = usual_s if sound_s is None else min(sound_s, usual_s)
        steady = extent.longest <= 2 * extent.interval
        if extent.lasts is not None:
            length_s = extent.lasts / TICKS_PER_S
        elif stated_s > video_s + 1.5 * frame_s and (
            (stated_s >= video_s + hole_s and (sound_s is not None or extent.is_whole))
            or (stated_s < video_s + hole_s and extent.is_whole and not (steady or video_fills))
            or (sound_s is not None and stated_s > video_s + max(3 * frame_s, 0.15))
        ):
            length_s = stated_s
        else:
            length_s = video_s
        wobble_s = min(self._wobble.total_seconds(), extent.interval / TICKS_PER_S * 0.9)
        return timedelta(seconds=length_s - wobble_s)

    def _true_shift(self, date: datetime, *, in_a_row: bool, after_ad: bool) -> timedelta:
        """Return by how much the source's clock is wrong, going by what was recorded."""
        last = self._recording.last
        if last is None:
            return self._shift
        idle = self._recording.idle
        credible = timedelta.max if idle is None else _CREDIBLE_JUMP + idle
        if in_a_row:
            credible = _CREDIBLE_IN_A_ROW
        for shift in (timedelta(0), self._shift):
            early = _MAX_BREAK if after_ad and not shift else MIN_GAP
            if -early < date + shift - last.end <= credible:
                self._shift, self._jumped = shift, False
                return shift
        self._shift = last.end - date
        if not self._jumped:
            _log.warning("the source's clock jumped by %+.1f s", -self._shift.total_seconds())
        self._jumped = True
        return self._shift
