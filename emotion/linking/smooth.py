"""Probabilities over each track's time.

The mean is exponentially weighted, of the past only, and without start-up bias: a frame that is
t seconds old weighs exp(-t / time constant), whatever the spacing, and the mean is the weighted
sum over the sum of weights; so a track's first frames are averaged plainly.

Where the future is known, `centred` weighs frames before and after by the same rule: as quick, and
nothing is late.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from emotion.types import Float32, Float64, Int64, K, Observations, StateError

TIME_CONSTANT_S: Final = 1.0
"""How far the mean looks back. A causal mean lags by its time constant, and expressions last some
0.5 to 4 s; so 1 s: as much averaging as 2 s of plain mean, and a short smile is still seen."""

CENTRED_TIME_CONSTANT_S: Final = 0.6
"""Of centred means: as little noise as a causal mean has, and a quicker rise (docs/tracks.md)."""

LOOK_S: Final = 2.0
"""How far a centred mean looks to both sides; what is further away would weigh a thirtieth."""

_US: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mean:
    """mean: (8,), 0 where nothing was seen. weight: (8,), sum of weights at `seen_us`."""

    seen_us: int
    mean: Float64
    weight: Float64


_NOTHING: Final = _Mean(seen_us=0, mean=np.zeros(K), weight=np.zeros(K))


class Smoother:
    """Means of the tracks of one broadcast."""

    def __init__(self, time_constant_s: float = TIME_CONSTANT_S) -> None:
        """Start with nothing seen."""
        self._time_constant_us = time_constant_s * _US
        self._means: dict[int, _Mean] = {}

    @classmethod
    def from_state(
        cls, state: list[dict[str, Any]], time_constant_s: float = TIME_CONSTANT_S
    ) -> "Smoother":
        """Go on from `state`. Raises StateError where that is something else."""
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
        """Return all of it, for JSON, from which `from_state` goes on exactly."""
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
        """Take a frame's tracks (M,) and probabilities (M, 8), return their means (M, 8).

        A class that is NaN in a frame is left out of that frame, and NaN where it was never seen.
        Rows sum to 1 over the classes that are known.
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
    """Return `parts[at]`, smoothed by what is up to `LOOK_S` before and after, in all the parts.

    parts: in order of time. Where they reach as far, where a part ends makes no difference.
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
