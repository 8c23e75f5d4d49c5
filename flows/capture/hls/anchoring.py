"""When a source's segments were on air by its playlist, and whether that is plausible.

For the ffmpeg engine, which has no dates. A source that resets its clock changes its dates from
then on, but not its timestamps: if these continue the recording, they count.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from flows.capture.hls.dating import CREDIBLE_EDGE, NOT_BELIEVED
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.entries import published_in
from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.clock import Section
from flows.capture.recorded.media import TICKS_PER_S, read_head, ticks_from
from flows.capture.recorded.recording import MIN_GAP, Recording
from flows.capture.recorded.runs import newest_clock
from flows.capture.segment import CaptureError
from flows.capture.waits import Stopped

_log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 512 * 1024
_WHOLE_BYTES: Final = 16 * 1024 * 1024
"""Of a segment without a keyframe in its head."""

_MAX_TIMES: Final = 64
_READ_AHEAD: Final = 4
"""Segments that ffmpeg opens at most before it reports a jump in the first of them."""

_CREDIBLE: Final = timedelta(seconds=5)
"""Most that dates may be later than timestamps: frames may be missing."""

_ROUNDED: Final = timedelta(seconds=1)
"""Most that durations in a playlist may be off."""

_BEHIND: Final = timedelta(seconds=30)
"""Most that the recording may be behind the playlist."""


class Anchoring:
    """Dates segments of a stream by its playlist, and by what is recorded of it."""

    def __init__(
        self,
        fetcher: Fetcher,
        recording: Recording,
        *,
        time_shifted: bool = False,
        off_air_at: float = 0.0,
    ) -> None:
        """Keep how the newest run dated its timestamps; called before the next run begins.

        time_shifted: the source's dates are right, though hours from now. off_air_at: see `Stream`.
        """
        self._time_shifted, self._off_air_at = time_shifted, off_air_at
        self._fetcher, self._recording = fetcher, recording
        self._times: dict[Entry, tuple[int | None, int | None]] = {}
        self._before = newest_clock(recording.directory)

    @property
    def is_anchored(self) -> bool:
        """Whether the dates of the newest run's timestamps are known."""
        return self._before is not None and self._before.is_anchored

    def n_missed(self, entries: tuple[Entry, ...]) -> int:
        """Return how many of the newest entries are not recorded yet."""
        last = self._recording.last
        if not entries:
            return 0
        if last is None:
            since_s = time.monotonic() - self._off_air_at
            return len(published_in(entries, since_s)) if self._off_air_at else 0
        if last.start_is_estimated and not self.is_anchored:
            return 0
        if self._is_credible(entries):
            return sum(entry.end is not None and entry.end > last.end for entry in entries)
        n, shift = 0, timedelta(0)
        after: Entry | None = None
        for entry in reversed(entries):
            if entry.date is None or entry.end is None:
                break
            if after is None or after.date is None or abs(entry.end - after.date) > _ROUNDED:
                ticks, _ = self.times_in(entry)
                if ticks is not None:
                    shift = self._true_date(entry.date, ticks) - entry.date
                elif after is None or after.date is None:
                    # It was published by now, give or take a segment.
                    late = self._recording.idle or timedelta(0)
                    late += timedelta(seconds=2 * entry.duration_s)
                    shift = last.end + late - entry.end
                elif not after.discontinuity:
                    shift += after.date - entry.end
            if entry.end + shift <= last.end:
                break
            n, after = n + 1, entry
        return n

    def _is_credible(self, entries: tuple[Entry, ...]) -> bool:
        """Return whether dates follow each other, up to about now; else frames are compared."""
        last, idle, newest = self._recording.last, self._recording.idle, entries[-1].end
        if last is None or idle is None or newest is None:
            return True
        in_a_row = all(
            b.discontinuity or not (a.end and b.date) or abs(a.end - b.date) < _ROUNDED
            for a, b in pairwise(entries)
        )
        return in_a_row and -_ROUNDED < newest - last.end < idle + _CREDIBLE

    def first_section(
        self, opened: Iterable[tuple[Entry, datetime]], *, start: int | None
    ) -> Section | None:
        """Return the date of a run's start, by the entries that ffmpeg opened and when, in order.

        start: timestamp of the run's first frame in the source, in ticks, if ffmpeg reported it.
        The run begins with the entry that has this frame: ffmpeg skips failed ones without a
        message. If none is known to have it, the first is taken. None if its date may be wrong and
        the segment can't be read now.
        """
        candidates: list[tuple[Entry, datetime, int | None, int | None]] = []
        is_found = False
        for entry, opened_at in opened:
            times = (None, None) if entry.date is None else self.times_in(entry)
            if is_found or start is None or _holds(entry, times[0], start):
                if times[0] is None or times[1] is not None:
                    return self._section_of(entry, opened_at, *times)
                is_found = True  # what comes before the first keyframe is not recorded
            candidates.append((entry, opened_at, *times))
        return self._section_of(*candidates[0]) if candidates and not is_found else None

    def jumped(self, opened: Sequence[Entry], *, by_us: int, after: Entry | None) -> Entry | None:
        """Return the entry whose timestamps jump by this much; None if none was opened.

        opened: the last ones that ffmpeg opened before it reported the jump, in order; it reads
        ahead. after: that of the jump before. The newest is taken if no other is known to fit.
        """
        first = opened.index(after) + 1 if after in opened else 0
        for before, entry in list(pairwise(opened[max(0, first - 1) :]))[-_READ_AHEAD:]:
            if entry is opened[-1] or entry.date is None:
                continue
            a, b = self.times_in(before)[0], self.times_in(entry)[0]
            if a is None or b is None:
                continue
            step_s = ticks_from(a, b) / TICKS_PER_S - before.duration_s
            if abs(step_s - by_us / 1e6) < min(0.5, abs(by_us) / 2e6):
                return entry
        return opened[-1] if opened else None

    def first_keyframe(
        self, opened: Iterable[tuple[Entry, datetime]], *, start: int | None
    ) -> int | None:
        """Return the source's timestamp of a run's first recorded frame; None if unknown.

        For the arguments see `first_section`. Where segments can't be read, that is `start`.
        """
        for entry, _ in opened:
            first, keyframe = self.times_in(entry)
            if start is None or _holds(entry, first, start):
                return keyframe if keyframe is not None else start
        return start

    def section_by_origin(
        self, origins: Iterable[datetime], *, start: int | None
    ) -> Section | None:
        """Return the date of a run whose first frame has this timestamp; None if unknown.

        origins: when timestamp 0 was on air, for each period of a manifest; the one that gives the
        date nearest to now is taken.
        """
        if start is None:
            return None
        now = datetime.now(UTC)
        try:
            since = timedelta(seconds=start / TICKS_PER_S)
            dates = sorted((origin + since for origin in origins), key=lambda date: abs(now - date))
        except OverflowError:
            return None
        if not dates:
            return None
        if not self._time_shifted and abs(now - dates[0]) > CREDIBLE_EDGE + _BEHIND:
            _log.warning(NOT_BELIEVED, dates[0].isoformat(timespec="seconds"))
            return None
        return Section(date=dates[0], estimated=False, input=start)

    def _section_of(
        self, entry: Entry, opened_at: datetime, first: int | None, keyframe: int | None
    ) -> Section | None:
        """Date a run that begins with this entry; without a date, by when it was opened."""
        if entry.date is None:
            published = opened_at - timedelta(seconds=entry.duration_s)
            return Section(date=published, estimated=True, input=None)
        if first is None and entry.whole and self.is_anchored and not self._is_credible((entry,)):
            return None
        if not self._time_shifted and abs(opened_at - entry.date) > CREDIBLE_EDGE + _BEHIND:
            published = opened_at - timedelta(seconds=entry.duration_s)
            date = self._true_date(published, first)
            _log.warning(NOT_BELIEVED, entry.date.isoformat(timespec="seconds"))
            return Section(date=date, estimated=True, input=keyframe)
        date = self._true_date(entry.date, first)
        lead = timedelta(seconds=((keyframe or 0) - (first or 0)) / TICKS_PER_S)
        return Section(date=date + lead, estimated=date != entry.date, input=keyframe)

    def _true_date(self, date: datetime, ticks: int | None) -> datetime:
        """Return when a segment with this date and first timestamp was on air."""
        last, idle = self._recording.last, self._recording.idle
        if last is None or idle is None or ticks is None or self._before is None:
            return date
        if -_ROUNDED < date - last.end < idle + _CREDIBLE:
            return date  # The date is plausible, also if timestamps started over.
        expected = self._before.date_of_input(ticks)
        if expected is None or -_CREDIBLE < expected - date < MIN_GAP:
            return date
        if not -_BEHIND < expected - last.end < idle + _BEHIND:
            return date  # Its timestamps started over.
        by_s = (date - expected).total_seconds()
        _log.warning("the source's clock jumped by %.1f s", by_s)
        return expected

    def times_in(self, entry: Entry) -> tuple[int | None, int | None]:
        """Return the timestamps of a source segment's first frame and first keyframe."""
        if not entry.whole:
            return None, None
        if entry in self._times:
            return self._times[entry]
        found: tuple[int | None, int | None] = None, None
        try:
            init = b""
            if entry.map_url is not None:
                init = self._fetcher.get(entry.map_url, max_bytes=_HEAD_BYTES).body
            for most in (_HEAD_BYTES, _WHOLE_BYTES):
                head = self._fetcher.get(entry.url, max_bytes=most, head_only=True).body
                found = read_head(init + head, fragmented=entry.map_url is not None)
                if found[1] is not None or len(head) < most:
                    break
        except (CaptureError, Stopped) as e:
            _log.info("the source's segment can't be read: %s", e)
            return None, None
        if len(self._times) >= _MAX_TIMES:
            self._times.clear()
        self._times[entry] = found
        return found


def _holds(entry: Entry, first: int | None, ticks: int) -> bool:
    """Return whether a frame is in this entry, by the entry's first frame; allows reordering."""
    if first is None:
        return False
    since_s = ticks_from(first, ticks) / TICKS_PER_S
    return -0.25 * entry.duration_s <= since_s < 0.75 * entry.duration_s
