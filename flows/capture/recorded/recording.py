"""One broadcast's directory: what was recorded, in order, also after a crash.

NNNN-DATE.m3u8, .json, .log    a run: its playlist; of ffmpeg also the dates of its timestamps, its
                               words
NNNN-DATE-NNNNNN.ts, .mp4      what it recorded; with .gone after it: about to be deleted
play/*.m3u8                    playlists that somebody asked for, from a moment on
events.jsonl                   every segment and gap that was reported, a line each
position.json                  where in an HLS source the last segment was
ffmpeg.pid                     what runs now
"""

import errno
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.recorded import following, runs
from flows.capture.recorded.clock import Clock, Section
from flows.capture.recorded.journal import JOURNAL, mend, read_lines, to_line
from flows.capture.recorded.media import TICKS_PER_S, WRAP, Extent, measure
from flows.capture.segment import Gap, Segment, UnreadableMedia

_log = logging.getLogger(__name__)

MIN_GAP: Final = timedelta(milliseconds=100)
"""Shorter holes are no gaps, and shorter remains of a repeated segment are no segments."""

_MAX_BEFORE: Final = 64
_MAX_BEFORE_S: Final = 60.0
"""So much is decoded, at most, before a segment that begins amid pictures."""

MAX_REPEATED: Final = timedelta(seconds=30)
"""A source that goes back by more has set its clock, and does not repeat itself."""


class Recording:
    """A broadcast's directory; reads what is there, and adds to it.

    Segments that it makes never overlap: one that lies within what is recorded already (ffmpeg,
    started again, begins with the newest segment of the playlist) is deleted; one that overlaps it
    begins where that ends, with `offset_s` into its file.
    """

    def __init__(self, directory: Path, *, channel: str, broadcast: int) -> None:
        """Read the journal of the directory, which is made if need be."""
        self.stop_at: datetime | None = None
        """Segments that start here or later are deleted."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.channel, self.broadcast = directory, channel, broadcast
        mend(self._journal)
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

    def go_on_after(self, segment: Segment | None) -> None:
        """Go on after a segment that another machine recorded, if it is later than what is here."""
        if segment is not None and (self.last is None or segment.end > self.last.end):
            self.last, self._added_at = segment, None

    @property
    def _journal(self) -> Path:
        return self.directory / JOURNAL

    @property
    def idle(self) -> timedelta | None:
        """For how long no segment was added, by this machine's clock; None if that is unknown."""
        if self._added_at is None:
            return None
        return timedelta(seconds=max(0.0, time.time() - self._added_at))

    @property
    def pid_file(self) -> Path:
        """The file that says which process records here."""
        return self.directory / "ffmpeg.pid"

    def new_run(self, now: datetime, *, verbatim: bool = False) -> str:
        """Return a name for the next run; names sort in the order of the runs.

        verbatim: its files are the source's, which can be fetched again; those that were not
        added are nothing.
        """
        return runs.new_run(self.directory, now, verbatim=verbatim)

    def pieces(self, run: str) -> list[Path]:
        """Return a run's finished files that were not taken yet, in order."""
        paths = sorted([*self.directory.glob(f"{run}-*.ts"), *self.directory.glob(f"{run}-*.mp4")])
        return [path for path in paths if path.name not in self._taken]

    def take(
        self, path: Path, clock: Clock, *, ticks: int | None = None, why: str | None = None
    ) -> list[Segment | Gap]:
        """Add a finished file; return the events: none, a segment, or a gap and a segment.

        ticks: how long ffmpeg says it is, to the first frame of the next; without it the end is
        read from its frames. why: what to say of a gap before it. Raises UnreadableMedia.
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
        # Within a run, ffmpeg's timestamps go on also where the source's don't.
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
        """Add a finished file whose dates are known; returns and takes what `take` does.

        continuous: its timestamps go on from those of the file before, unless a gap is found.
        is_ad: what the source says. What follows advertisements has its dates all the same.
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
                _log.info("%s repeats what is recorded: deleted", path.name)
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
        self.first, self.last = self.first or segment, segment
        self._added_at = time.time()
        return events

    def _before(self) -> tuple[str, ...]:
        """Return the files from the newest that stands alone on, in order, within bounds."""
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
        """Tell those who play it that nothing more will come."""
        try:
            following.end(self.directory)
        except OSError as e:
            _log.warning("the playlists in %s stay open: %s", self.directory, e)

    def add_gap(self, gap: Gap) -> None:
        """Note a gap that no segment follows."""
        self._write([gap])

    def _dates(
        self, extent: Extent, clock: Clock, ticks: int | None
    ) -> tuple[datetime, datetime, bool]:
        """Return the dates of start and end, and whether they are estimated."""
        first, end = extent.first, extent.end
        start, estimated = clock.date(first)
        if self.last is not None and self.last.end - start > timedelta(hours=13):
            # The counter of 33 bits starts over after 26.5 hours.
            first, end = first + WRAP, end + WRAP
            start, estimated = clock.date(first)
        if self.last is not None and self.last.end - start > MAX_REPEATED:
            _log.warning("the source's clock went back by %s", self.last.end - start)
            clock.shift(self.last.end - start, now=first)
            start, estimated = clock.date(first)
        # To the next segment's first frame, unless frames are missing before that. A source may
        # skip frames that have not changed, so what is a hole depends on the steps it makes.
        # A few frames that are left of a segment say little of the rate.
        self._interval = min(self._interval, extent.interval)
        hole = max(3 * self._interval, extent.longest) + TICKS_PER_S // 10
        if ticks is not None and extent.interval // 2 < ticks <= end - first + hole:
            end = max(first + ticks, end - extent.interval // 2)
        stop, _ = clock.date(end)
        jumped = not clock.same_section(first, end)
        usual = start + timedelta(seconds=(end - first) / TICKS_PER_S)
        if stop <= start or (jumped and abs(stop - usual) > MIN_GAP):
            # The date jumps with the timestamps: this segment ends as if it did not.
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
            following.follow(self.directory, self.events)
        except OSError as e:
            _log.warning("the playlists in %s wait for the next segment: %s", self.directory, e)

    def recover(self) -> list[Segment | Gap]:
        """Take segments that earlier runs finished and did not report; return them."""
        found: list[Segment | Gap] = []
        for run in runs.runs_in(self.directory):
            clock, verbatim = runs.load_clock(self.directory, run)
            for path in self.pieces(run):
                if self._lost_lines and path.name < max(self._taken, default=""):
                    continue  # It was reported, by a line that can't be read any more.
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
    """Return the date as every recording of it has it: in whole milliseconds."""
    return date.replace(microsecond=0) + timedelta(milliseconds=round(date.microsecond / 1000))
