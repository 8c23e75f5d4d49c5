"""Counts the declared content of an ISO BMFF file (MP4, fMP4, MOV) before memory is allocated.

Some tables declare all entries by a single number, for which a demuxer allocates at least 24
bytes each. Containers are entered, sizes read and boxes skipped as in libavformat
(libavformat/mov.c, `mov_read_default`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_CONTAINERS: Final = frozenset(
    b"dinf edts mdia minf moov mvex stbl traf trak tref udta wave moof mfra sinf schi ipro".split()
)
_DEEPEST: Final = 10
_MAX_EDITS: Final = 1000
_PACKED: Final = {b"cmov": "a header that is packed", b"iloc": "a picture", b"iinf": "a picture"}
_PER_SAMPLE: Final = (0x100, 0x200, 0x400, 0x800)
"""Flags of a run's columns, 4 bytes per sample (ISO/IEC 14496-12, 8.8.8)."""


_PER_PACKET: Final = 1024
_PER_BYTE: Final = 8
"""Maximum of samples per byte, of the most compact audio."""

_SMALL_BYTES: Final = 1 << 14


class TooMuch(Exception):
    """A file declares more content than fits into it, or than is allowed."""


@dataclass(kw_only=True, slots=True)
class _Track:
    """The tables of one track.

    is_even: audio whose samples all have the same duration, so that whole chunks are packets.
    """

    handler: bytes = b""
    n_sizes: int = 0
    is_even: bool = False
    n_chunks: int = 0
    chunks: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    """(N, 2): first chunk, from 1, and the samples per chunk from there on."""

    @property
    def n_samples(self) -> int:
        """The number of samples, the larger of two tables."""
        lengths = np.diff(self.chunks[:, 0], append=self.n_chunks + 1)
        return max(self.n_sizes, int(np.maximum(lengths, 0) @ self.chunks[:, 1]))

    @property
    def n_packets(self) -> int:
        if self.handler == b"soun" and self.is_even:
            return self.n_samples // _PER_PACKET + self.n_chunks
        return self.n_samples


def require_counts(file: BinaryIO, n_bytes: int, *, most_samples: int, most_boxes: int) -> None:
    """Raise TooMuch for a file of `n_bytes` that declares impossible content.

    most_samples: of all tracks together. Files that are not ISO BMFF pass.
    """
    tracks = [_Track()]
    n_in_runs = 0
    for number, (kind, content, size) in enumerate(_walk(file, 0, n_bytes, 0)):
        if number >= most_boxes:
            raise TooMuch(f"more than {most_boxes} boxes")
        if kind in _PACKED:
            raise TooMuch(f"{_PACKED[kind]}, and no video")
        if kind == b"trak":
            tracks.append(_Track())
        elif kind in _READERS:
            file.seek(content)
            # Only the table of chunks is read whole; it is bounded by the file's size.
            data = file.read(size if kind == b"stsc" else min(size, 20))
            n_in_runs += _READERS[kind](data, size, tracks[-1])
            if n_in_runs > most_samples:
                break
    n_packets = n_in_runs + sum(each.n_packets for each in tracks)
    if n_packets > most_samples:
        raise TooMuch(f"{n_packets} samples, and {most_samples} are the most")
    n_samples = n_in_runs + sum(each.n_samples for each in tracks)
    if n_samples > _PER_BYTE * max(n_bytes, _SMALL_BYTES):
        raise TooMuch(f"{n_samples} samples, in {n_bytes} bytes")


def _walk(file: BinaryIO, begin: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, position and size of each box's content, containers before their children."""
    at = begin
    while end - at >= 8:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind, content = int.from_bytes(head[:4]), head[4:8], at + 8
        if size == 1 and end - at >= 16:
            size, content = int.from_bytes(head[8:16]), at + 16
        elif size == 0:
            size = end - at
        if size < content - at:
            return
        stop = min(at + size, end)
        if kind in (b"free", b"hoov") and head[12:16] in (b"mvhd", b"cmov"):
            kind = b"moov"
        yield kind, content, stop - content
        if kind in _CONTAINERS and depth < _DEEPEST:
            yield from _walk(file, content, stop, depth + 1)
        at += size


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4])


def _read_run(data: bytes, size: int, track: _Track) -> int:
    flags, n = _u32(data, 0), _u32(data, 4)
    _require_room(n, 4 * sum(bool(flags & flag) for flag in _PER_SAMPLE), size)
    return n


def _read_sizes(data: bytes, size: int, track: _Track) -> int:
    n = _u32(data, 8)
    _require_room(n, 0 if _u32(data, 4) else 4, size)
    track.n_sizes = max(track.n_sizes, n)
    return 0


def _read_short_sizes(data: bytes, size: int, track: _Track) -> int:
    n = _u32(data, 8)
    _require_room(n, (_u32(data, 4) & 0xFF) / 8, size)
    track.n_sizes = max(track.n_sizes, n)
    return 0


def _read_chunks(data: bytes, size: int, track: _Track) -> int:
    n = _u32(data, 4)
    _require_room(n, 12, min(size, len(data)) - 8)
    table = np.frombuffer(data[8 : 8 + 12 * n], dtype=">u4").reshape(-1, 3)
    track.chunks = table[:, :2].astype(np.float64)
    return 0


def _read_times(data: bytes, size: int, track: _Track) -> int:
    n = _u32(data, 4)
    _require_room(n, 8, size)
    track.is_even = n == 1 and _u32(data, 12) == 1
    return 0


def _read_edits(data: bytes, size: int, track: _Track) -> int:
    if (n := _u32(data, 4)) > _MAX_EDITS:
        raise TooMuch(f"{n} edits, and {_MAX_EDITS} are the most")
    return 0


def _read_handler(data: bytes, size: int, track: _Track) -> int:
    track.handler = track.handler or data[8:12]
    return 0


def _read_places(each_bytes: int) -> Callable[[bytes, int, _Track], int]:
    def read(data: bytes, size: int, track: _Track) -> int:
        n = _u32(data, 4)
        _require_room(n, each_bytes, size)
        track.n_chunks = max(track.n_chunks, n)
        return 0

    return read


def _require_room(n: int, each_bytes: float, size: int) -> None:
    if n * each_bytes > size:
        raise TooMuch(f"a table of {n} entries, in {size} bytes")


_READERS: Final[Mapping[bytes, Callable[[bytes, int, _Track], int]]] = {
    b"trun": _read_run,
    b"stsz": _read_sizes,
    b"stz2": _read_short_sizes,
    b"stsc": _read_chunks,
    b"stts": _read_times,
    b"stco": _read_places(4),
    b"co64": _read_places(8),
    b"elst": _read_edits,
    b"hdlr": _read_handler,
}
"""Readers of tables: take the table's beginning and size; return the number of samples of a run."""
