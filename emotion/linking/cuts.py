"""Detection of shot cuts, at which faces in the same place are different faces.

Each frame gets a histogram with soft bins, so that slow changes of light across a bin's border
have little effect: luma per quarter of the picture (a cut changes the layout),
chroma over the whole picture. The difference of two frames is half the sum of absolute
differences, 0 (same) to 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from emotion.types import Float32, Float64, Int64, UInt8

N_BINS: Final = 4 * 8 + 5 * 5
CUT: Final = 0.25
"""Difference above which there is a cut, 0 to 1. Measured between consecutive frames at 5 fps: up
to 0.13 within a shot, from 0.35 across a cut to other colours, from 0.11 between two shots of the
same colours, as in one set: see `Shots`."""

SOFT_CUT: Final = 0.1
_TIMES_USUAL: Final = 5.0
_USUAL_GAIN: Final = 0.3

_N_LUMA: Final = 8
_N_CHROMA: Final = 5
_CHROMA_REACH: Final = 64.0  # of 128: chroma above counts as fully saturated
_SAMPLES: Final = 64  # pixels along the longer side


class Shots:
    """Detects cuts relative to the usual difference of frames within the shot."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._histogram: Float32 | None = None
        self._usual: float | None = None

    @classmethod
    def from_state(cls, histogram: list[float] | None, usual: float | None) -> "Shots":
        """Continue from a state. Raises ValueError or TypeError if it is invalid."""
        self = cls()
        if histogram is not None:
            self._histogram = np.array(histogram, dtype=np.float32)
        self._usual = None if usual is None else float(usual)
        return self

    @property
    def state(self) -> tuple[list[float] | None, float | None]:
        """Return the last histogram and the usual difference, for JSON and `from_state`."""
        return None if self._histogram is None else self._histogram.tolist(), self._usual

    def see(self, histogram: Float32, *, faces_stay: Callable[[], bool]) -> bool:
        """Add the next frame; return whether it begins a new shot.

        A jump below `CUT` that is unusual for the shot is also a cut, unless the faces stay in
        place, as when a caption appears; `faces_stay` is called only then.
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
    """Return the lower of the two bins around a value, 0 to 1, and the share of the upper one."""
    at = np.clip(values, 0, 1) * (n_bins - 1)
    low = np.minimum(at.astype(np.int64), n_bins - 2)
    return low, at - low


def _count(total: Float64, bins: Int64, weights: Float64) -> None:
    total += np.bincount(bins.ravel(), weights.ravel(), total.size).reshape(total.shape)


def difference(a: Float32, b: Float32) -> float:
    """Return the difference of two histograms (N_BINS,), 0 to 1."""
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).sum() / 2)
