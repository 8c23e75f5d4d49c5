"""Reads what the recording needs from ffmpeg's log, while ffmpeg runs."""

import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.media import TICKS_PER_S
from flows.capture.redaction import clean

MAX_LOG_BYTES: Final = 4 * 1024 * 1024
"""A longer log is truncated, after it has been read."""

_SAYS = r"\[[^\]]{1,60}\] (?:\[[^\]]{1,60}\] )?"
"""The name of ffmpeg's component at the start of a log line. Metadata of a stream (a title, a
server's name) has no such name before it, and is indented more than a stream's own line.
"""

_OPENED = re.compile(_SAYS + r"Opening '(http[^']+)' for reading")
_START = re.compile(r"  Stream #0:\d+\S*: Video: .*, start (-?\d+\.\d+)")
_JUMPED = re.compile(
    r"\[([av]?)[^\]]{1,60}\] (?:\[[^\]]{1,60}\] )?"
    r"timestamp discontinuity \(stream id=\d+\): (-?\d+), new offset= (-?\d+)"
)
_APART = "sound and picture have a gap of their own"
"""After a gap of 10 s in one of them, ffmpeg moves both, and back, with each packet."""

_SAME_US: Final = 1_000_000
_DESCRIPTION = re.compile(r"\s|(?:Input|Output) #\d")
"""Beginning of lines that describe a stream, with text of the source; not errors."""

_COMPLAINT = re.compile(
    r"error|fail|invalid|no such|no space|quota|read-only|too large|refused|timed out|forbidden"
    r"|prematurely|not ",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"Failed to open segment|Stream ends prematurely"
    r"|No space left|Disk quota exceeded|Read-only file system|File too large",
    re.IGNORECASE,
)
"""Errors after which ffmpeg continues, and an incomplete segment looks complete."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Jump:
    """A jump in the source's timestamps, by `by_us`.

    opened: the last segments opened before it was logged, in order.
    """

    by_us: int
    offset_us: int
    opened: tuple[Entry, ...]


class FfmpegLog:
    """Reads a growing log.

    opened: the last segments of a playlist that were opened, and when, in order. start: the
    source's timestamp of the first video frame, in ticks of 90 kHz, once it was logged. error_text:
    the last error; empty if none.
    """

    def __init__(self, path: Path, *, entry_at: Callable[[str], Entry | None]) -> None:
        """Read nothing yet. entry_at: returns the segment at a URL; None for any other URL."""
        self._path, self._entry_at = path, entry_at
        self._position = 0
        self._line = ""
        self._jumps: list[Jump] = []
        self._moved: tuple[str, int] | None = None
        self.opened: deque[tuple[Entry, datetime]] = deque(maxlen=16)
        self.start: int | None = None
        self.error_text = ""

    def read(self) -> list[str]:
        """Read new lines; return the errors after which an incomplete segment looks complete."""
        with self._path.open("rb") as log:
            log.seek(self._position)
            text = log.read().decode(errors="replace")
            self._position = log.tell()
        if self._position > MAX_LOG_BYTES:
            # ffmpeg appends (O_APPEND), so its next line is at 0.
            os.truncate(self._path, 0)
            self._position = 0
        *lines, self._line = (self._line + text).split("\n")
        breaks = []
        for line in lines:
            if found := _OPENED.match(line):
                entry = self._entry_at(found[1])
                if entry is not None:
                    self.opened.append((entry, datetime.now(UTC)))
            elif self.start is None and (found := _START.match(line)):
                self.start = round(float(found[1]) * TICKS_PER_S)
            elif found := _JUMPED.match(line):
                by_us = int(found[2])
                opened = tuple(entry for entry, _ in self.opened)
                self._jumps.append(Jump(by_us=by_us, offset_us=int(found[3]), opened=opened))
                if self._is_moved_back(found[1], by_us):
                    breaks.append(_APART)
            elif not _DESCRIPTION.match(line) and _COMPLAINT.search(line):
                self.error_text = clean(re.sub(r"^(\[[^\]]*\] *)+", "", line.strip()))[:300]
                if _BREAK.search(line):
                    breaks.append(self.error_text)
        return breaks

    def _is_moved_back(self, kind: str, by_us: int) -> bool:
        """Return whether a jump of sound undoes the one of the picture just before, or reverse."""
        before, self._moved = self._moved, (kind, by_us)
        if before is None or before[0] == kind or (before[1] < 0) == (by_us < 0):
            return False
        return abs(before[1] + by_us) < _SAME_US

    def take_jumps(self) -> list[Jump]:
        """Return the jumps since the last call."""
        jumps, self._jumps = self._jumps, []
        return jumps
