"""Finds the frames of a show in a recording, by their unique bytes.

Copying and cutting do not change the coded slices of a frame, only its timestamps. What a container
changes is left out: how units are delimited, and where parameter sets are.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import av

from flows.capture.segment import Gap, Segment
from flows.demo.airing import Airing

_SLICES: Final = (1, 5)
_MIN_GAP: Final = timedelta(milliseconds=100)
"""Minimum length of a gap in seconds (flows.capture.recorded.recording.MIN_GAP)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A frame of video in a file.

    digest: of its slices. offset_s: after the file's first frame. position: of its last bytes in
    the file, about.
    """

    digest: bytes
    offset_s: float
    position: int


def read_frames(path: Path) -> list[Frame]:
    """Return the frames of video in an MPEG-TS or MP4 file, in the order of their bytes.

    Empty if none can be read.
    """
    frames: list[Frame] = []
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            first: float | None = None
            for packet in container.demux(container.streams.video[0]):
                if packet.pts is None or packet.time_base is None:
                    continue
                time_s = float(packet.pts * packet.time_base)
                first = time_s if first is None else first
                frames.append(
                    Frame(
                        digest=hashlib.md5(_slices(bytes(packet)), usedforsecurity=False).digest(),
                        offset_s=time_s - first,
                        position=(packet.pos or 0) + packet.size,
                    )
                )
    except (av.FFmpegError, OSError, IndexError):
        pass  # Keep the frames of a damaged file that were read.
    return frames


def _slices(data: bytes) -> bytes:
    """Return the coded slices of a packet of H.264 (Rec. ITU-T H.264, table 7-1, annex B)."""
    if data.startswith((b"\0\0\1", b"\0\0\0\1")):
        units = data.split(b"\0\0\1")[1:]
    else:
        units, at = [], 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            units.append(data[at + 4 : end])
            at = end
    return b"".join(unit.rstrip(b"\0") for unit in units if unit and unit[0] & 31 in _SLICES)


@lru_cache(maxsize=4096)
def _frames_of_piece(path: Path) -> tuple[Frame, ...]:
    return tuple(read_frames(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The recorded parts of a show, in seconds of the show.

    first, end: half-open range of the audited segments. repeated_s: recorded
    more than once. silent_s: lost for at least a tenth of a second without a gap.
    gaps_s: the length of the gaps.
    date_error_s: maximum error of a recorded frame's date, if the source has dates.
    """

    first: int
    end: int
    shown_s: float
    lost_s: float
    repeated_s: float
    silent_s: float
    gaps_s: float
    date_error_s: float


class Audit:
    """Knows the frames of a show, and finds them in recordings."""

    def __init__(self, show: Airing) -> None:
        """Start without frames."""
        self._show = show
        self._known: dict[bytes, tuple[int, int]] = {}
        self._read = 0

    def find(self, frame: Frame) -> tuple[int, int] | None:
        """Return the segment of the show and the frame in it; None for an unknown frame."""
        while self._read < self._show.published:
            for n, piece in enumerate(_frames_of_piece(self._show.piece_at(self._read).path)):
                self._known[piece.digest] = (self._read, n)
            self._read += 1
        return self._known.get(frame.digest)

    def segments_in(self, path: Path) -> list[int]:
        """Return the show's segments that a file has frames of."""
        found = {place[0] for frame in read_frames(path) if (place := self.find(frame))}
        return sorted(found)

    def of_files(self, paths: Iterable[Path], *, end: int | None = None) -> Account:
        """Audit files, given only their order; see `of_events`."""
        places = [self.find(frame) for path in paths for frame in read_frames(path)]
        return self._account([place for place in places if place], [], end, [])

    def of_events(self, events: Sequence[Segment | Gap], *, end: int | None = None) -> Account:
        """Audit the segments and gaps of a capture.

        end: the segment of the show before which nothing may be missing; None for the last
        recorded frame. If a segment starts inside its file (`offset_s`), earlier
        frames belong to the previous segment.
        """
        places: list[tuple[int, int]] = []
        errors: list[float] = [0.0]
        for event in events:
            if isinstance(event, Gap):
                continue
            for frame in read_frames(event.path):
                place = self.find(frame)
                if place is None or frame.offset_s < event.offset_s - 0.001:
                    continue
                places.append(place)
                if not event.start_is_estimated:
                    since = timedelta(seconds=frame.offset_s - event.offset_s)
                    off = event.start + since - self._date_of(place)
                    errors.append(abs(off.total_seconds()))
        gaps = [event for event in events if isinstance(event, Gap)]
        return self._account(places, gaps, end, errors)

    def _date_of(self, place: tuple[int, int]) -> datetime:
        frames = _frames_of_piece(self._show.piece_at(place[0]).path)
        return self._show.start_of(place[0]) + timedelta(seconds=frames[place[1]].offset_s)

    def _account(
        self,
        places: list[tuple[int, int]],
        gaps: list[Gap],
        end: int | None,
        errors: list[float],
    ) -> Account:
        counted = Counter(places)
        first = min(places)[0] if places else 0
        last = max(places, default=(-1, -1))
        wanted = end or 0
        end = max(wanted, last[0] + 1)
        shown_s = lost_s = repeated_s = 0.0
        untold: list[tuple[datetime, float]] = []
        for index in range(first, end):
            piece = self._show.piece_at(index)
            n_frames = len(_frames_of_piece(piece.path))
            frame_s = piece.duration_us / 1e6 / n_frames
            for n in range(n_frames):
                if index >= wanted and (index, n) > last:
                    break
                shown_s += frame_s
                times = counted[index, n]
                repeated_s += frame_s * max(0, times - 1)
                if times:
                    continue
                lost_s += frame_s
                date = self._date_of((index, n))
                if not any(gap.start - _MIN_GAP <= date < gap.end + _MIN_GAP for gap in gaps):
                    untold.append((date, frame_s))
        return Account(
            first=first,
            end=end,
            shown_s=shown_s,
            lost_s=lost_s,
            repeated_s=repeated_s,
            silent_s=_sum_of_holes(untold),
            gaps_s=sum((gap.end - gap.start).total_seconds() for gap in gaps),
            date_error_s=max(errors, default=0.0),
        )


def _sum_of_holes(missing: list[tuple[datetime, float]]) -> float:
    """Return the missing seconds in stretches that should be gaps, from dated frames."""
    total_s = hole_s = 0.0
    end = None
    for date, frame_s in [*sorted(missing), (datetime.max.replace(tzinfo=UTC), 0.0)]:
        if end is None or date - end > timedelta(milliseconds=5):
            total_s += hole_s if hole_s >= _MIN_GAP.total_seconds() - 0.001 else 0.0
            hole_s = 0.0
        hole_s += frame_s
        end = date + timedelta(seconds=frame_s) if frame_s else date
    return total_s
