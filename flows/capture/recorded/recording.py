"""One broadcast's directory: its recording, in order, also after a crash.

NNNN-DATE.m3u8, .json, .log    a run: its playlist; of ffmpeg also its clock and its log
NNNN-DATE-NNNNNN.ts, .mp4      its segments; with .gone after it: about to be deleted
play/*.m3u8                    playlists for players, from a chosen time on
events.jsonl                   the journal: every reported segment and gap, a line each
position.json                  the last segment's position in an HLS source
ffmpeg.pid                     the process that records now
"""

import errno
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.recorded import playback_playlists, runs
from flows.capture.recorded.clock import Clock, Section
from flows.capture.recorded.journal import JOURNAL, read_lines, repair, to_line
from flows.capture.recorded.media import TICKS_PER_S, WRAP, Extent, measure
from flows.capture.segment import Gap, Segment, UnreadableMedia

_log = logging.getLogger(__name__)

MIN_GAP: Final = timedelta(milliseconds=100)
"""Shorter holes are not gaps, and shorter rests of a repeated segment are not segments."""

_MAX_BEFORE: Final = 64
_MAX_BEFORE_S: Final = 60.0
"""Most that is decoded before a segment whose first pictures need earlier ones."""

_SOUND_S: Final = 0.25
"""Most seconds that sound ends before the first picture after it."""

MAX_REPEATED: Final = timedelta(seconds=30)
"""A source whose dates go back by more has set its clock; by less, it repeats segments."""


class Recording:
    """A broadcast's directory: reads its recording, and adds to it.

    Segments never overlap: one within the recorded time is deleted (after a restart, ffmpeg begins
    with the newest segment of the playlist); one that overlaps it starts at its end, with
    `offset_s` into its own file.
    """

    def __init__(self, directory: Path, *, channel: str, broadcast: int) -> None:
        """Read the directory's journal; the directory is made if missing."""
        self.stop_at: datetime | None = None
        """Segments that start here or later are deleted."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.channel, self.broadcast = directory, channel, broadcast
        repair(self._journal)
        self.events: list[Segment | Gap]
        self.events, self._lost_lines = read_lines(directory)
        self._taken = {event.path.name for event in self.events if isinstance(event, Segment)}
        segments = [event for event in self.events if isinstance(event, Segment)]
        self._interval = TICKS_PER_S
        self._added_at: float | None = None
        if segments and segments[-1].path.exists():
            self._added_at = segments[-1].path.stat().st_mtime
        self.first = segments[0] if segments else None
        self.last = segments[-1] if segments else None
        self.extent: Extent | None = None
        """Of the newest file that was added since."""

    def go_on_after(self, segment: Segment | None) -> None:
        """Continue after a segment of another machine, if it is later than those here."""
        if segment is not None and (self.last is None or segment.end > self.last.end):
            self.last, self._added_at = segment, None

    @property
    def _journal(self) -> Path:
        return self.directory / JOURNAL

    @property
    def idle(self) -> timedelta | None:
        """Time since the last segment was added, by this machine's clock; None if unknown."""
        if self._added_at is None:
            return None
        return timedelta(seconds=max(0.0, time.time() - self._added_at))

    @property
    def pid_file(self) -> Path:
        """The pid file of the process that records here."""
        return self.directory / "ffmpeg.pid"

    def new_run(self, now: datetime, *, verbatim: bool = False) -> str:
        """Return a name for the next run; names sort in the order of the runs.

        verbatim: its files are the source's own, so files that were not added are deleted: they can
        be fetched again.
        """
        return runs.new_run(self.directory, now, verbatim=verbatim)

    def pieces(self, run: str) -> list[Path]:
        """Return a run's finished files that were not added yet, in order."""
        paths = sorted([*self.directory.glob(f"{run}-*.ts"), *self.directory.glob(f"{run}-*.mp4")])
        return [path for path in paths if path.name not in self._taken]

    def take(
        self, path: Path, clock: Clock, *, ticks: int | None = None, why: str | None = None
    ) -> list[Segment | Gap]:
        """Add a finished file; return the events: none, a segment, or a gap and a segment.

        ticks: its length by ffmpeg, to the first frame of the next; None: read from its frames.
        why: reason of a gap before it. Raises UnreadableMedia.
        """
        if path.stat().st_size == 0:
            # ffmpeg was killed before it wrote the file that it had opened.
            path.unlink()
            return []
        try:
            extent = measure(path)
        except UnreadableMedia:
            self._taken.add(path.name)
            raise
        if clock.first is None:
            clock.first = extent.first
        if not clock.is_set:
            closed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            length = timedelta(seconds=(extent.end - extent.first) / TICKS_PER_S)
            clock.begin(Section(date=closed_at - length, estimated=True, input=None))
        start, end, estimated = self._dates(extent, clock, ticks)
        # Within a run, ffmpeg's timestamps are continuous even where the source's are not.
        same_run = self.last is not None and runs.run_of(self.last.path) == runs.run_of(path)
        return self.add(
            path,
            extent,
            start=start,
            end=end,
            estimated=estimated,
            why=why,
            continuous=same_run,
        )

    def add(
        self,
        path: Path,
        extent: Extent,
        *,
        start: datetime,
        end: datetime,
        estimated: bool,
        why: str | None = None,
        continuous: bool = False,
        is_ad: bool | None = None,
    ) -> list[Segment | Gap]:
        """Add a finished file with known dates; otherwise like `take`.

        continuous: its timestamps continue those of the file before, unless there is a gap. is_ad:
        as the source marks it. A segment after advertisements keeps its dates even if they overlap.
        """
        if self.stop_at is not None and start >= self.stop_at:
            path.unlink()
            return []
        if end <= start:
            _log.warning("%s has no length: deleted", path.name)
            path.unlink()
            return []
        offset = timedelta(0)
        events: list[Segment | Gap] = []
        if self.last is not None:
            if not (self.last.is_ad and not is_ad and not estimated):
                offset = max(timedelta(0), self.last.end - start)
            start += offset
            if offset and end - start < MIN_GAP:
                _log.info("%s is recorded already: deleted", path.name)
                path.unlink()
                return []
            if start - self.last.end >= MIN_GAP:
                reason = why or "the source skipped it"
                events.append(Gap(start=self.last.end, end=start, why=reason))
        continuous = continuous and self.last is not None and not events
        segment = Segment(
            channel=self.channel,
            broadcast=self.broadcast,
            sequence=self.last.sequence + 1 if self.last else 0,
            start=start,
            start_is_estimated=estimated,
            duration_s=(end - start).total_seconds(),
            path=path,
            width_px=extent.width_px or (self.last.width_px if continuous and self.last else 0),
            height_px=extent.height_px or (self.last.height_px if continuous and self.last else 0),
            offset_s=offset.total_seconds(),
            continuous=continuous,
            is_ad=is_ad,
            needs=self._before() if continuous and not extent.stands_alone else (),
        )
        events.append(segment)
        self._write(events)
        self._taken.add(path.name)
        self.first, self.last, self.extent = self.first or segment, segment, extent
        self._added_at = time.time()
        return events

    def _before(self) -> tuple[str, ...]:
        """Return the files from the newest one that stands alone, in order, within bounds."""
        names: list[str] = []
        length_s = 0.0
        for event in reversed(self.events):
            if isinstance(event, Gap):
                break
            names.append(event.path.name)
            length_s += event.duration_s
            if not event.needs or len(names) >= _MAX_BEFORE or length_s >= _MAX_BEFORE_S:
                break
        return tuple(reversed(names))

    def close(self) -> None:
        """End its playlists for players."""
        try:
            playback_playlists.end(self.directory)
        except OSError as e:
            _log.warning("the playlists in %s stay open: %s", self.directory, e)

    def add_gap(self, gap: Gap) -> None:
        """Add a gap that no segment follows."""
        self._write([gap])

    def _dates(
        self, extent: Extent, clock: Clock, ticks: int | None
    ) -> tuple[datetime, datetime, bool]:
        """Return the dates of start and end, and whether they are estimated."""
        first, end = extent.first, extent.end
        start, estimated = clock.date(first)
        if self.last is not None and self.last.end - start > timedelta(hours=13):
            # The 33-bit counter wraps around after 26.5 hours.
            first, end = first + WRAP, end + WRAP
            start, estimated = clock.date(first)
        if self.last is not None and self.last.end - start > MAX_REPEATED:
            _log.warning("the source's clock went back by %s", self.last.end - start)
            clock.shift(self.last.end - start, now=first)
            start, estimated = clock.date(first)
        # The end is the next segment's first frame, unless frames are missing before it. A source
        # may skip unchanged frames, so the size of a hole depends on the longest interval; the
        # shortest interval so far is used, as a few frames of a segment don't show the rate.
        self._interval = min(self._interval, extent.interval)
        hole = max(3 * self._interval, extent.longest) + TICKS_PER_S // 10
        if extent.sound_s is not None and ticks is not None:
            # A picture is held as long as there is sound, as where there is one a segment.
            hole = max(hole, round((extent.sound_s + _SOUND_S) * TICKS_PER_S) - (end - first))
        if ticks is not None and extent.interval // 2 < ticks <= end - first + hole:
            end = max(first + ticks, end - extent.interval // 2)
        stop, _ = clock.date(end)
        jumped = not clock.same_section(first, end)
        usual = start + timedelta(seconds=(end - first) / TICKS_PER_S)
        if stop <= start or (jumped and abs(stop - usual) > MIN_GAP):
            # The date jumps with the timestamps: end this segment as without the jump.
            stop = whole_ms(usual)
        return start, stop, estimated

    def _write(self, events: list[Segment | Gap]) -> None:
        lines = "".join(to_line(event) + "\n" for event in events)
        with self._journal.open("ab", buffering=0) as journal:
            size = journal.tell()
            try:
                if journal.write(lines.encode()) != len(lines.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._journal))
            except OSError:
                journal.truncate(size)
                raise
        self.events += events
        try:
            playback_playlists.follow(self.directory, self.events)
        except OSError as e:
            _log.warning("the playlists in %s were not updated; will retry: %s", self.directory, e)

    def recover(self) -> list[Segment | Gap]:
        """Add segments that earlier runs finished but did not report; return the events."""
        found: list[Segment | Gap] = []
        for run in runs.runs_in(self.directory):
            clock, verbatim = runs.load_clock(self.directory, run)
            for path in self.pieces(run):
                if self._lost_lines and path.name < max(self._taken, default=""):
                    continue  # it was reported, in a line that can't be read any more
                if verbatim:
                    path.unlink()
                    continue
                try:
                    found += self.take(path, clock, why="the recording was interrupted")
                except UnreadableMedia as e:
                    _log.warning("%s", e)
        for unfinished in self.directory.glob("*.tmp"):
            unfinished.unlink(missing_ok=True)
        return found


def whole_ms(date: datetime) -> datetime:
    """Return the date rounded to milliseconds, so that all recordings of it agree."""
    return date.replace(microsecond=0) + timedelta(milliseconds=round(date.microsecond / 1000))
