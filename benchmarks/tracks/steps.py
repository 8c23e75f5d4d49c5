"""Response of the smoothing to a step, to a short smile, and to noise.

python -m benchmarks.tracks.steps
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.linking.smooth import Smoother, centred
from emotion.types import K, Observations

FPS: Final = 5

Values = NDArray[np.float64]


def smoothed(values: Values, fps: float) -> dict[str, Values]:
    """Return both smoothings of one class's probability over time."""
    probs = np.full((len(values), K), np.nan, dtype=np.float32)
    probs[:, 0], probs[:, 1] = values, 1 - values
    ts_us = np.rint(np.arange(len(values)) / fps * 1e6).astype(np.int64)
    track = np.ones(len(values), dtype=np.int64)
    smoother = Smoother()
    causal = [
        smoother.update(t, track[:1], p[None])[0, 0]
        for t, p in zip(ts_us.tolist(), probs, strict=True)
    ]
    rows = Observations(
        ts=ts_us.astype("datetime64[us]"),
        track=track,
        boxes=np.zeros((len(values), 4), dtype=np.float32),
        scores=np.ones(len(values), dtype=np.float32),
        probs=probs,
        smoothed=probs,
    )
    both = centred([rows], 0).smoothed[:, 0]
    return {
        "raw": values,
        "causal": np.array(causal, dtype=np.float64),
        "centred": both.astype(np.float64),
    }


def crossing_s(values: Values, level: float, fps: float, change_s: float) -> float:
    """Return the time from the step until a rising curve passes the level, in seconds."""
    after = int(np.argmax(values >= level))
    before = after - 1
    share = (level - values[before]) / (values[after] - values[before])
    return float((before + share) / fps - change_s)


def main() -> None:
    """Command line."""
    fps, n = 100, 4000  # finer than the analysis, to read times
    times = np.arange(n) / fps
    step = smoothed((times >= 20).astype(np.float64), fps)
    smile = smoothed(((times >= 20) & (times < 21)).astype(np.float64), fps)
    rng = np.random.default_rng(0)
    noise = smoothed(0.5 + 0.1 * rng.standard_normal(20_000), FPS)
    print("| | half a step after | rise, 10 to 90 % | smile of 1 s peaks at | noise left, 5 fps |")
    print("|---|---:|---:|---:|---:|")
    for name in ("raw", "causal", "centred"):
        low, half, high = (crossing_s(step[name], x, fps, 20) for x in (0.1, 0.5, 0.9))
        left = noise[name][100:-100].std() / noise["raw"][100:-100].std()
        print(
            f"| {name} | {half:.2f} s | {high - low:.2f} s | {smile[name].max():.2f} | {left:.2f} |"
        )


if __name__ == "__main__":
    main()
