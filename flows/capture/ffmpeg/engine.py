"""One run of ffmpeg: a stream in, a rolling HLS recording of MPEG-TS segments out."""

import logging
import math
import re
import subprocess
import time
from datetime import UTC, datetime
from typing import Final

from flows.capture.ffmpeg.command import build_arguments
from flows.capture.ffmpeg.inputs import Input
from flows.capture.ffmpeg.log import FfmpegLog
from flows.capture.ffmpeg.sound import SoundBeside
from flows.capture.hls.anchoring import Anchoring
from flows.capture.playlists.playlist import Entry
from flows.capture.processes import spawn, stop
from flows.capture.recorded.clock import Clock, Section
from flows.capture.recorded.media import TICKS_PER_S
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.runs import save_clock
from flows.capture.segment import Gap, Segment, UnreadableMedia
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)

_ANCHOR_TRIES: Final = 3
_ANCHOR_PAUSE_S: Final = 0.5

_EXTINF = re.compile(r"#EXTINF:([\d.]+),[^\n]*\n(?:#[^\n]*\n)*([^#\n]+)")


class FfmpegRun:
    """A running ffmpeg, and what it has recorded so far.

    To be used by one thread, which must poll it.
    """

    def __init__(
        self,
        stream: Stream,
        recording: Recording,
        anchoring: Anchoring,
        source_input: Input,
        *,
        ffmpeg_path: str,
        segment_s: float,
        step_s: float = 0.0,
        may_skip: bool = False,
        sound: SoundBeside | None = None,
    ) -> None:
        """Start ffmpeg; for `step_s` see `engines.EngineRun`.

        source_input, sound: closed by `finish`. may_skip: skip failing segments of an HLS
        source until one was recorded; else a failing segment ends the run, so that the next run can
        read it again.
        """
        self.step_s = step_s
        self._stream, self._recording, self._anchoring = stream, recording, anchoring
        self._input, self._sound = source_input, sound
        self._name = recording.new_run(datetime.now(UTC))
        self._clock = Clock()
        directory = recording.directory
        self._playlist = directory / f"{self._name}.m3u8"
        log_file = directory / f"{self._name}.log"
        self._log = FfmpegLog(log_file, entry_at=source_input.entry)
        self._break = ""
        self._is_ending = False
        self._skips_after = recording.last if may_skip else None
        self._playlist_seen: tuple[int, int] | None = None
        self._jumped_to: Entry | None = None
        self._tries = 0
        self._try_at = 0.0
        self._unread: list[str] = []
        self.process: subprocess.Popen[bytes] = spawn(
            build_arguments(
                stream,
                source_input.url,
                more=source_input.options,
                ffmpeg_path=ffmpeg_path,
                directory=directory,
                run=self._name,
                segment_s=segment_s,
            ),
            log=log_file,
            pid_file=recording.pid_file,
            environment=source_input.environment,
            endpoint=source_input.endpoint,
        )

    def poll(self, *, why: str | None = None, last: bool = False) -> list[Segment | Gap]:
        """Return the segments and gaps since the last call, in order.

        why: the reason of a gap before them. last: ffmpeg has ended, so don't wait. Raises
        UnsafeURL once the stream led to a URL that is not allowed.
        """
        if not last:
            self._input.check()
        self._unread += self._input.take_unreadable()
        self._read_log()
        if self._break:
            return []
        if not self._clock.is_set and not self._set_clock(last=last):
            return []
        try:
            status = self._playlist.stat()
        except FileNotFoundError:
            return []
        seen = (status.st_mtime_ns, status.st_ino)
        if seen == self._playlist_seen and not last:
            return []
        self._playlist_seen = seen
        return self._take(why)

    @property
    def pause_s(self) -> float:
        """Unknown: ffmpeg finishes segments as they come."""
        return math.inf

    @property
    def ended(self) -> str | None:
        """Why the run has ended; None while it runs."""
        if self._break:
            return self._break
        status = self.process.poll()
        return None if status is None else f"ffmpeg ended with status {status}"

    @property
    def unreadable(self) -> str | None:
        """None: ffmpeg does not report what it can't read."""
        return None

    @property
    def outage(self) -> str | None:
        """None: ffmpeg does not report outages."""
        return None

    def finish(self, *, why: str | None = None, stalled: bool = False) -> list[Segment | Gap]:
        """End ffmpeg, letting it finish its segment; return the remaining segments and gaps.

        stalled: the source does not answer; then ffmpeg of an HLS source is killed, as the next run
        can read the segment again.
        """
        try:
            return self._finish(why=why, stalled=stalled)
        finally:
            if self._sound is not None:
                self._sound.close()

    def _finish(self, *, why: str | None, stalled: bool) -> list[Segment | Gap]:
        self._is_ending = True
        stop(
            self.process,
            at_once=bool(self._break) or (stalled and self._stream.protocol == "hls"),
            cut=self._input.close,
        )
        self._recording.pid_file.unlink(missing_ok=True)
        if self._break:
            # Segments finished since may be incomplete.
            for path in self._recording.pieces(self._name):
                path.unlink()
            return []
        return self.poll(why=why, last=True)

    @property
    def error_text(self) -> str:
        """The last error of reading or fetching, or of ffmpeg's log; empty if none."""
        return self._unread[-1] if self._unread else self._input.error_text or self._log.error_text

    def _take(self, why: str | None) -> list[Segment | Gap]:
        listed = self._playlist.read_text(encoding="utf-8")
        ticks = {name: round(float(s) * TICKS_PER_S) for s, name in _EXTINF.findall(listed)}
        paths = self._recording.pieces(self._name)
        # After listing the files: a jump is logged before its segment is finished.
        self._read_log()
        if self._break:
            return []
        events: list[Segment | Gap] = []
        for path in paths:
            before = self._clock.state()
            try:
                found = self._recording.take(
                    path,
                    self._clock,
                    ticks=ticks.get(path.name),
                    why="; ".join(filter(None, [why, *self._unread])) or None,
                )
                events += found
                self._unread.clear()
                if found and self._sound is not None:
                    self._sound.pictured(self._clock, self._log.opened, start=self._log.start)
            except UnreadableMedia as e:
                _log.warning("%s", e)
                self._unread.append(str(e))
            self._follow_jumps()
            if self._clock.state() != before:
                self._save_clock()
        return events

    def _read_log(self) -> None:
        breaks = self._log.read()
        # At the end we close ffmpeg's input ourselves, and an incomplete segment is the last.
        if breaks and not self._is_ending and self._can_read_again():
            self._break = self._break or breaks[0]
        self._follow_jumps()

    def _can_read_again(self) -> bool:
        """Return whether the next run would begin with the segment that this one can't read."""
        last = self._recording.last
        if self._stream.protocol != "hls" or last is None:
            return False
        anchored = self._clock.is_anchored or self._anchoring.is_anchored
        if last.start_is_estimated and not anchored:
            return False
        return last is not self._skips_after

    # -- the source's dates

    def _set_clock(self, *, last: bool) -> bool:
        """Date the run's first frame by the source's playlist; return whether that is done.

        Without a date in the playlist, it is the time when the segment was opened, minus its
        length.
        """
        if self._stream.protocol != "hls":
            return self._set_clock_by_manifest(last=last)
        if last and not self._log.opened:
            return True
        # ffmpeg logs its first timestamp, if at all, before it finishes a segment.
        is_reading = self._log.start is not None or self._playlist.exists()
        if not last and not (self._log.opened and is_reading and time.monotonic() >= self._try_at):
            return False
        self._tries += self._playlist.exists()
        self._try_at = time.monotonic() + _ANCHOR_PAUSE_S
        section = self._anchoring.first_section(self._log.opened, start=self._log.start)
        if section is not None:
            self._clock.begin(section)
            self._save_clock()
        return section is not None or last or self._tries >= _ANCHOR_TRIES

    def _set_clock_by_manifest(self, *, last: bool) -> bool:
        """Date the run's first frame by a DASH manifest, if it has dates.

        Else `Recording.take` estimates them.
        """
        origins = self._input.origins
        if origins and self._log.start is None and not last and not self._playlist.exists():
            return False
        section = self._anchoring.section_by_origin(origins, start=self._log.start)
        if section is not None:
            self._clock.begin(section)
            self._save_clock()
        return True

    def _follow_jumps(self) -> None:
        """Date the frames after jumps in the source's timestamps that ffmpeg logged."""
        first = self._clock.first
        if first is None:
            return
        jumps = self._log.take_jumps()
        if not jumps:
            return
        now = self._ticks_now(first)
        for jump in jumps:
            section: Section | None = None
            entry = self._anchoring.jumped(jump.opened, by_us=jump.by_us, after=self._jumped_to)
            self._jumped_to = entry
            if entry is not None and entry.date is not None:
                section = Section(
                    date=entry.date,
                    estimated=False,
                    input=self._anchoring.times_in(entry)[0],
                    offset_us=jump.offset_us,
                )
            known = section is not None and section.input is not None and self._clock.is_anchored
            if self._sound is not None and not known:
                self._sound.lose_clock()
            if section is None and self._clock.date(now)[1]:
                continue  # estimated dates continue unchanged
            if section is None:
                section = Section(date=datetime.now(UTC), estimated=True, input=None)
            self._clock.jump(section, now=now)
        self._save_clock()

    def _save_clock(self) -> None:
        save_clock(self._recording.directory, self._name, self._clock)

    def _ticks_now(self, first: int) -> int:
        """Return ffmpeg's approximate position in its output: the end of the last segment."""
        last = self._recording.last
        start, _ = self._clock.date(first)
        passed = (last.end - start).total_seconds() if last is not None else 0.0
        return first + round(max(0.0, passed) * TICKS_PER_S)
