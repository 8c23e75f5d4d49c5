"""Generated shows: seeded, and realistic in the aspects that matter for tables and plans.

A few seats with faces that appear (for half a minute on average) and leave. Their emotions follow
an autoregressive process with a time constant of seconds, each seat
has its own mean, and sometimes an event affects all faces. 5 frames a second,
some 3 faces: 15 observations per second of show. The same seed gives the same rows.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from scipy.signal import lfilter

from db.tables.shows import EMOTIONS
from db.writing.rows import ObservationRows, to_microseconds

TEMPER: Final = np.array([1.6, 0.9, -0.6, -0.4, -0.2, -1.2, -1.0, -1.6])
"""Mean log-odds of each emotion, as `EMOTIONS`."""

WANDERS_S: Final = 6.0
SMOOTH_S: Final = 1.5
ON_S: Final = 30.0
OFF_S: Final = 10.0
EVENT_S: Final = 75.0
"""Mean seconds between events that affect all faces."""


def make_show(
    seed: tuple[int, ...],
    *,
    start: datetime,
    seconds: float,
    fps: float = 5.0,
    seats: int = 4,
    lacking: tuple[str, ...] = ("contempt",),
) -> ObservationRows:
    """Return the observations of a show, sorted by time, then track; some 0.75 x seats faces."""
    random = np.random.default_rng(seed)
    n, k = round(seconds * fps), len(EMOTIONS)
    present, track = _attendance(random, n, seats, fps)  # (n, seats) each
    keep = np.exp(-1.0 / (WANDERS_S * fps))
    noise = random.normal(0.0, np.sqrt(1.0 - keep**2), (n, seats, k))
    temper = TEMPER + random.normal(0.0, 0.7, (seats, k))
    logits = temper + 1.1 * lfilter([1.0], [1.0, -keep], noise, axis=0) + _events(random, n, fps)
    raw = _softmax(logits + random.normal(0.0, 0.8, logits.shape))
    blur = np.exp(-1.0 / (SMOOTH_S * fps))
    smoothed = _softmax(lfilter([1.0 - blur], [1.0, -blur], logits - temper, axis=0) + temper)
    probs, smooth = (values[present].astype(np.float32) for values in (raw, smoothed))  # (M, k)
    for emotion in lacking:
        probs[:, EMOTIONS.index(emotion)] = smooth[:, EMOTIONS.index(emotion)] = np.nan
    step = np.timedelta64(round(1e6 / fps), "us")
    times = to_microseconds(start) + np.arange(n) * step
    frame, seat = np.nonzero(present)
    m = len(frame)
    size = random.uniform(60, 220, seats)[seat] + random.normal(0, 3, m)
    x0 = (seat + 0.5) * 1280 / (seats + 1) + random.normal(0, 4, m)
    y0 = 160 + random.normal(0, 4, m)
    rows = ObservationRows(
        ts=times[frame].astype("datetime64[us]"),
        track=track[present],
        boxes=np.stack([x0, y0, x0 + size, y0 + 1.25 * size], axis=1).astype(np.float32),
        scores=random.uniform(0.7, 1.0, m).astype(np.float32),
        probs=probs,
        smoothed=smooth,
    )
    return rows.take(np.lexsort((rows.track, rows.ts)))


def pieces(
    rows: ObservationRows, *, start: datetime, seconds: float, segment_s: float
) -> Iterator[tuple[datetime, ObservationRows]]:
    """Cut a show into segments: the start of each, and its rows."""
    count = round(seconds / segment_s)
    starts = [start + timedelta(seconds=segment_s * i) for i in range(count + 1)]
    edges = np.searchsorted(rows.ts, [to_microseconds(moment) for moment in starts])
    for i in range(count):
        yield starts[i], rows.take(np.arange(edges[i], edges[i + 1]))


def _attendance(
    random: np.random.Generator, n: int, seats: int, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a face is present, and its track: (n, seats) bool and int64."""
    present = np.zeros((n, seats), dtype=bool)
    track = np.zeros((n, seats), dtype=np.int64)
    entries: list[tuple[int, int, int]] = []
    for seat in range(seats):
        frame = round(random.exponential(OFF_S) * fps)
        while frame < n:
            stay = max(3, round(random.exponential(ON_S) * fps))
            entries.append((frame, seat, min(n, frame + stay)))
            frame += stay + max(1, round(random.exponential(OFF_S) * fps))
    for number, (first, seat, stop) in enumerate(sorted(entries), start=1):
        present[first:stop, seat] = True
        track[first:stop, seat] = number
    return present, track


def _events(random: np.random.Generator, n: int, fps: float) -> np.ndarray:
    """Return the common events, (n, 1, k): jumps that fade within some ten seconds."""
    jumps = np.zeros((n, 1, len(EMOTIONS)))
    for frame in np.flatnonzero(random.random(n) < 1.0 / (EVENT_S * fps)):
        jumps[frame, 0, random.integers(1, 5)] += random.uniform(2.0, 4.0)
    return np.asarray(lfilter([1.0], [1.0, -np.exp(-1.0 / (8.0 * fps))], jumps, axis=0))


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))
