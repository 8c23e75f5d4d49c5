"""Smoothing of probabilities over the time of each track.

The causal mean is exponentially weighted, over the past only, without start-up bias: a frame of
t seconds ago has the weight exp(-t / time constant), independent of the frame rate, and the mean
is the weighted sum divided by the sum of weights; so a track's first frames get a plain average.

For recordings `centred` weights frames before and after by the same rule, without lag.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from emotion.types import Float32, Float64, Int64, K, Observations, StateError

TIME_CONSTANT_S: Final = 1.0
"""Of the causal mean, in seconds. It lags by its time constant, and expressions last some 0.5 to
4 s; 1 s averages as much as 2 s of plain mean, and keeps a short smile visible."""

CENTRED_TIME_CONSTANT_S: Final = 0.6
"""Of centred means, in seconds: noise as of the causal mean, rises faster (docs/tracks.md)."""

LOOK_S: Final = 2.0
"""Window of a centred mean to each side, in seconds; beyond it weights are below 1/28."""

_US: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mean:
    """mean: (8,), 0 where nothing was seen. weight: (8,), sum of weights at `seen_us`."""

    seen_us: int
    mean: Float64
    weight: Float64


_NOTHING: Final = _Mean(seen_us=0, mean=np.zeros(K), weight=np.zeros(K))


class Smoother:
    """Causal means of the tracks of one broadcast."""

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        """Start with nothing seen."""
        self._time_constant_us = time_constant_s * _US
        self._means: dict[int, _Mean] = {}

    @classmethod
    def from_state(
        cls, state: list[dict[str, Any]], time_constant_s: float = TIME_CONSTANT_S
    ) -> "Smoother":
        """Continue from `state`. Raises StateError if it is invalid."""
        self = cls(time_constant_s)
        try:
            for row in state:
                self._means[int(row["track"])] = _Mean(
                    seen_us=int(row["seen_us"]),
                    mean=np.array(row["mean"], dtype=np.float64).reshape(K),
                    weight=np.array(row["weight"], dtype=np.float64).reshape(K),
                )
        except (KeyError, TypeError, ValueError) as e:
            raise StateError(f"not a smoother's state: {e!r}") from e
        return self

    @property
    def state(self) -> list[dict[str, Any]]:
        """Return the whole state, JSON-serialisable, for `from_state`."""
        return [
            {
                "track": track,
                "seen_us": one.seen_us,
                "mean": one.mean.tolist(),
                "weight": one.weight.tolist(),
            }
            for track, one in self._means.items()
        ]

    def keep(self, tracks: Set[int]) -> None:
        """Forget the means of all other tracks."""
        self._means = {t: one for t, one in self._means.items() if t in tracks}

    def update(self, ts_us: int, tracks: Int64, probs: Float32) -> Float32:
        """Add a frame's tracks (M,) and probabilities (M, 8), return their means (M, 8).

        NaN values are ignored; a class without any value is NaN.
        Rows sum to 1 over the other classes.
        """
        befores = [self._means.get(track, _NOTHING) for track in tracks.tolist()]
        elapsed_us = np.array([ts_us - b.seen_us for b in befores]).reshape(-1, 1)
        mean = np.array([b.mean for b in befores]).reshape(-1, K)
        weight = np.array([b.weight for b in befores]).reshape(-1, K)
        known = ~np.isnan(probs)
        weight = weight * np.exp(-elapsed_us / self._time_constant_us) + known
        gain = np.divide(known, weight, out=np.zeros_like(weight), where=known)
        mean = mean + (np.where(known, probs, 0) - mean) * gain
        for row, track in enumerate(tracks.tolist()):
            self._means[track] = _Mean(seen_us=ts_us, mean=mean[row], weight=weight[row])
        total = mean.sum(axis=1, keepdims=True)
        seen = weight > 0
        smoothed = np.divide(mean, total, out=np.full_like(mean, np.nan), where=seen & (total > 0))
        rows: Float32 = smoothed.astype(np.float32)
        return rows


def centred(
    parts: Sequence[Observations], at: int, time_constant_s: float = CENTRED_TIME_CONSTANT_S
) -> Observations:
    """Return `parts[at]`, smoothed with all observations up to `LOOK_S` before and after.

    parts: in order of time. If they cover that window, their borders do not change the result.
    """
    one = parts[at]
    ts_us = np.concatenate([part.ts for part in parts]).astype(np.int64)
    track = np.concatenate([part.track for part in parts])
    probs = np.concatenate([part.probs for part in parts]).astype(np.float64)
    smoothed = np.full((len(one), K), np.nan)
    for number in np.unique(one.track):
        here, around = one.track == number, track == number
        apart_s = (one.ts[here].astype(np.int64)[:, None] - ts_us[around]) / _US  # (H, A)
        near = np.abs(apart_s) <= LOOK_S
        weight = np.where(near, np.exp(-np.abs(apart_s) / time_constant_s), 0.0)
        known = ~np.isnan(probs[around])
        mean = weight @ np.where(known, probs[around], 0)
        of = weight @ known
        smoothed[here] = np.divide(mean, of, out=np.full_like(mean, np.nan), where=of > 0)
    total = np.nansum(smoothed, axis=1, keepdims=True)
    rows = np.divide(smoothed, total, out=np.full_like(smoothed, np.nan), where=total > 0)
    return replace(one, smoothed=rows.astype(np.float32))
