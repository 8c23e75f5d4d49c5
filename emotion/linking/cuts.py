"""Shot cuts: where the picture is another one, and a face in the same place is another face.

Each frame's colours are counted in soft bins, so that light that drifts across a bin's border
changes little: brightness by the picture's quarters (where a face was, a cut puts something
else), chroma over the whole picture. Two frames differ by half the sum of absolute differences,
0 (same) to 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from emotion.types import Float32, Float64, Int64, UInt8

N_BINS: Final = 4 * 8 + 5 * 5
CUT: Final = 0.25
"""Measured between consecutive frames at 5 fps: up to 0.13 in a shot, from 0.35 across a cut to
other colours. From 0.11 between two shots of the same colours, as of one set: see `Shots`."""

SOFT_CUT: Final = 0.1
_TIMES_USUAL: Final = 5.0
_USUAL_GAIN: Final = 0.3

_N_LUMA: Final = 8
_N_CHROMA: Final = 5
_CHROMA_REACH: Final = 64.0  # of 128: beyond, colours count as fully saturated
_SAMPLES: Final = 64  # along the longer side


class Shots:
    """How much the frames of a shot usually differ, so that a jump stands out."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._histogram: Float32 | None = None
        self._usual: float | None = None

    @classmethod
    def from_state(cls, histogram: list[float] | None, usual: float | None) -> "Shots":
        """Go on from a state. Raises ValueError or TypeError where it is something else."""
        self = cls()
        if histogram is not None:
            self._histogram = np.array(histogram, dtype=np.float32)
        self._usual = None if usual is None else float(usual)
        return self

    @property
    def state(self) -> tuple[list[float] | None, float | None]:
        """Return the last histogram and what is usual, for JSON and `from_state`."""
        return None if self._histogram is None else self._histogram.tolist(), self._usual

    def see(self, histogram: Float32, *, faces_stay: Callable[[], bool]) -> bool:
        """Take the next frame; return whether it is of another shot than the one before.

        A jump below `CUT` that is unusual for the shot is a cut too, unless the faces are where
        they were, as when a caption is put up; `faces_stay` is asked only then.
        """
        before, self._histogram = self._histogram, histogram
        if before is None:
            return False
        differs = difference(before, histogram)
        usual = self._usual
        odd = usual is not None and differs > max(SOFT_CUT, _TIMES_USUAL * usual)
        if differs > CUT or (odd and not faces_stay()):
            return True
        self._usual = differs if usual is None else usual + _USUAL_GAIN * (differs - usual)
        return False


def histograms(images: UInt8) -> Float32:
    """Return float32 (N, N_BINS) of pictures (N, H, W, 3) RGB; rows sum to 1."""
    n, height, width, _ = images.shape
    step = max(1, max(height, width) // _SAMPLES)
    top, left = (min(step, side) // 2 for side in (height, width))
    rgb = images[:, top::step, left::step].astype(np.float64)
    n, h, w, _ = rgb.shape
    if n == 0:
        return np.zeros((0, N_BINS), dtype=np.float32)
    red, green, blue = np.moveaxis(rgb, 3, 0)  # (N, h, w)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601, as are the factors below
    quarter = (np.arange(h) * 2 // h)[:, None] * 2 + (np.arange(w) * 2 // w)[None, :]
    frame = np.arange(n)[:, None, None]

    luma_low, luma_part = _soft(luma / 255, _N_LUMA)
    total = np.zeros((n, N_BINS))
    base = frame * N_BINS + quarter * _N_LUMA
    for shift, weight in ((0, 1 - luma_part), (1, luma_part)):
        _count(total, base + luma_low + shift, weight)

    cb_low, cb_part = _soft((0.564 * (blue - luma) / _CHROMA_REACH + 1) / 2, _N_CHROMA)
    cr_low, cr_part = _soft((0.713 * (red - luma) / _CHROMA_REACH + 1) / 2, _N_CHROMA)
    base = frame * N_BINS + 4 * _N_LUMA
    for i, cb_weight in ((0, 1 - cb_part), (1, cb_part)):
        for j, cr_weight in ((0, 1 - cr_part), (1, cr_part)):
            bins = (cb_low + i) * _N_CHROMA + cr_low + j
            _count(total, base + bins, cb_weight * cr_weight)
    shares: Float32 = (total / (2 * h * w)).astype(np.float32)
    return shares


def _soft(values: Float64, n_bins: int) -> tuple[Int64, Float64]:
    """Return the lower of the two bins that a value, 0 to 1, is between; and the upper's share."""
    at = np.clip(values, 0, 1) * (n_bins - 1)
    low = np.minimum(at.astype(np.int64), n_bins - 2)
    return low, at - low


def _count(total: Float64, bins: Int64, weights: Float64) -> None:
    total += np.bincount(bins.ravel(), weights.ravel(), total.size).reshape(total.shape)


def difference(a: Float32, b: Float32) -> float:
    """Return how much two histograms (N_BINS,) differ, 0 to 1."""
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).sum() / 2)
