"""Limits of one broadcast's disk use: bit rate, segments a minute, and total bytes."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flows.capture.recorded.audio import bytes_in
from flows.capture.recorded.runs import PIECE
from flows.capture.segment import CaptureFailed, Gap, Segment

WINDOW_S: Final = 60.0
"""Seconds of the show over which the rate is averaged."""

MAX_SEGMENTS: Final = 1200
"""In a window: 20 a second. Each is a file and a row."""

MIN_WINDOW_S: Final = 20.0
"""Least divisor of the rate in seconds, so that a short burst does not exceed it."""


_AUDIO_EVERY: Final = 32
"""Segments until the audio that is recorded beside them is counted again."""


class QuotaExceeded(CaptureFailed):
    """A source sends more than allowed."""


@dataclass(kw_only=True, slots=True)
class Quota:
    """Counts the segments and bytes of a broadcast.

    total_bytes: in all; mbits_per_s: on average; None without limit.
    """

    total_bytes: int | None = None
    mbits_per_s: float | None = None
    _n_bytes: int = field(default=0, init=False)
    _audio_bytes: int = field(default=0, init=False)
    _n_segments: int = field(default=0, init=False)
    _newest: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def begin(self, directory: Path) -> None:
        """Count the files that are already in a broadcast's directory."""
        there = [each for each in directory.iterdir() if PIECE.fullmatch(each.name)]
        self._n_bytes = sum(each.stat().st_size for each in there)
        self._audio_bytes = bytes_in(directory)

    def count(self, events: Iterable[Segment | Gap]) -> None:
        """Count recorded segments; raise QuotaExceeded beyond a limit."""
        for event in events:
            if isinstance(event, Segment) and event.path.exists():
                size = event.path.stat().st_size
                self._n_bytes += size
                self._newest.append((event.duration_s, size))
                self._n_segments += 1
                if self._n_segments % _AUDIO_EVERY == 0:
                    self._audio_bytes = bytes_in(event.path.parent)
        length_s = sum(each for each, _ in self._newest)
        while self._newest and length_s - self._newest[0][0] >= WINDOW_S:
            length_s -= self._newest.popleft()[0]
        if len(self._newest) > MAX_SEGMENTS:
            raise QuotaExceeded(
                f"the source sends more than {MAX_SEGMENTS} segments a minute: recording has ended"
            )
        n_bits = 8 * sum(size for _, size in self._newest)
        rate = n_bits / max(length_s, MIN_WINDOW_S) / 1e6
        if self.mbits_per_s is not None and rate > self.mbits_per_s:
            raise QuotaExceeded(
                f"the source sends {rate:.0f} Mbit/s, more than {self.mbits_per_s:g} "
                "(SHOWMOOD_MAX_SHOW_MBITS): recording has ended"
            )
        n_bytes = self._n_bytes + self._audio_bytes
        if self.total_bytes is not None and n_bytes > self.total_bytes:
            raise QuotaExceeded(
                f"the recording takes {n_bytes / 1e9:.1f} GB, more than "
                f"{self.total_bytes / 1e9:.1f} (SHOWMOOD_MAX_SHOW_GB): recording has ended"
            )
