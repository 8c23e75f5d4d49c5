"""Limits of the content of a media file, and their enforcement."""

import ctypes
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import av

from emotion.media.isobmff import TooMuch, require_counts

__all__ = ["FILE", "SEGMENT", "Limits", "TooMuch", "options", "require_bounded"]

MAX_AT_ONCE_BYTES: Final = 256 << 20
"""Largest allocation of libav: an index, a picture of 33 million pixels with 16 bits each."""

_BOXES: Final = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one file's content.

    pixels: of a picture. samples: packets of all tracks, if the container declares them. boxes: of
    an MP4 file. frames_per_s: pictures a second, averaged over the file. decoding_s: time to decode
    the whole file; None without limit.
    """

    pixels: int
    samples: int
    boxes: int
    frames_per_s: int = 1000
    decoding_s: float | None = None


SEGMENT: Final = Limits(pixels=4096 * 2304, samples=200_000, boxes=20_000, decoding_s=120.0)
"""For segments of a live stream: up to 4K."""

FILE: Final = Limits(pixels=8192 * 4320, samples=10_000_000, boxes=5_000_000)
"""For the operator's own files: 8K, ten hours of 240 pictures a second."""


def options(limits: Limits) -> dict[str, str]:
    """Return the options for libavformat and its decoders."""
    return {"max_pixels": str(limits.pixels), "max_streams": "100"}


def require_bounded(source: Path | bytes, limits: Limits) -> None:
    """Raise TooMuch for a file, or the beginning of one, that declares more than the limits.

    Call it before libav opens the file. Raises OSError.
    """
    _bound_libav()
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        if file.read(8)[4:] not in _BOXES:
            return
        n_bytes = file.seek(0, os.SEEK_END)
        require_counts(file, n_bytes, most_samples=limits.samples, most_boxes=limits.boxes)


@cache
def _bound_libav() -> bool:
    """Limit the size of libav's allocations; return whether its library was found."""
    places: Mapping[str, str] = {"av.libs": "libavutil*.so*", "av/.dylibs": "libavutil*.dylib"}
    root = Path(av.__file__).parent.parent
    found = [path for place, name in places.items() for path in (root / place).glob(name)]
    for path in found:
        ctypes.CDLL(str(path)).av_max_alloc(ctypes.c_size_t(MAX_AT_ONCE_BYTES))
    return bool(found)
