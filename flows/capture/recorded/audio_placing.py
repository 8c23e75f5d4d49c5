"""Which recorded file of pictures a segment of audio belongs to, by their timestamps."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.capture.recorded.audio import Measured, name_of
from flows.capture.recorded.audio_shifting import shift
from flows.capture.recorded.media import TICKS_PER_S, WRAP, Extent, ticks_from
from flows.capture.segment import Segment, UnreadableMedia

_log = logging.getLogger(__name__)

_PICTURES: Final = 64
"""Most files of pictures, the newest, whose timestamps are kept."""

_MIN_TICKS: Final = TICKS_PER_S // 10
"""Ticks that audio which begins before all pictures must reach into them."""

_MAX_WAIT_S: Final = 60.0
"""Seconds after which a segment of audio without its pictures is deleted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """A recorded file of pictures, in ticks of 90 kHz.

    first: in the source. later: how much later that is in the file, as ffmpeg has its own clock.
    """

    stem: str
    first: int
    length: int
    later: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    path: Path
    measured: Measured
    since: float


class Placing:
    """Names files of audio after their pictures; any thread may call `pictured`."""

    def __init__(self) -> None:
        """Know no pictures yet."""
        self._lock = threading.Lock()
        self._pictures: deque[_Picture] = deque(maxlen=_PICTURES)
        self._waiting: list[_Waiting] = []
        self._newest: Measured | None = None

    def pictured(self, segment: Segment | None, extent: Extent, *, later: int = 0) -> None:
        """Take note of a recorded file of pictures.

        later: how many ticks later than in the source its timestamps are.
        """
        if segment is None:
            return
        length = round((segment.offset_s + segment.duration_s) * TICKS_PER_S)
        with self._lock:
            first = (extent.first - later) % WRAP
            self._pictures.append(
                _Picture(stem=segment.path.stem, first=first, length=length, later=later)
            )

    def add(self, path: Path, measured: Measured) -> None:
        """Take a fetched file, to be named once its pictures are recorded."""
        self._waiting.append(_Waiting(path=path, measured=measured, since=time.monotonic()))
        self.place()

    def place(self) -> None:
        """Name the files whose pictures are recorded by now; raises OSError."""
        with self._lock:
            pictures = list(reversed(self._pictures))
        waiting = []
        for each in self._waiting:
            found = _place_of(each.measured, pictures)
            if found is not None:
                _put(each, *found)
                self._newest = each.measured
            elif time.monotonic() - each.since > _MAX_WAIT_S:
                each.path.unlink(missing_ok=True)
            else:
                waiting.append(each)
        self._waiting = waiting

    @property
    def is_complete(self) -> bool:
        """Whether the newest file of pictures has its audio, to its end."""
        with self._lock:
            last = self._pictures[-1] if self._pictures else None
        if last is None or self._newest is None:
            return last is None
        audio_end = ticks_from(last.first, self._newest.first) + self._newest.length
        return audio_end > last.length - 2 * _MIN_TICKS

    def end(self) -> None:
        """Place what can be placed, and delete the rest; raises OSError."""
        self.place()
        for each in self._waiting:
            each.path.unlink(missing_ok=True)
        self._waiting.clear()


def _put(waiting: _Waiting, picture: _Picture, offset: int) -> None:
    """Name a file after its pictures, on their clock; delete it where that can't be done."""
    path, measured = waiting.path, waiting.measured
    try:
        if picture.later:
            measured, cut = shift(path, measured, by=picture.later)
            offset += cut
        path.replace(path.with_name(name_of(picture.stem, offset=offset, measured=measured)))
    except UnreadableMedia as e:
        _log.warning("a segment of audio is lost: %s", e)
        path.unlink(missing_ok=True)


def _place_of(measured: Measured, newest_first: list[_Picture]) -> tuple[_Picture, int] | None:
    """Return the file of pictures that audio begins in, or else reaches into, and its offset."""
    offsets = [(each, ticks_from(each.first, measured.first)) for each in newest_first]
    for each, offset in offsets:
        if 0 <= offset < each.length:
            return each, offset
    for each, offset in offsets:
        if offset < 0 and measured.length + offset > _MIN_TICKS:
            return each, offset
    return None
