"""Centred smoothing over a recording's windows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emotion.linking.smooth import LOOK_S, centred
from emotion.types import Observations
from flows.capture.segment import Segment
from flows.live.rows.file_analysis import Piece, centred_pieces

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
FPS = 5


def observations(first: int, last: int) -> Observations:
    """Return two faces in each of these frames, no face in some."""
    rng = np.random.default_rng(7)
    probs = rng.dirichlet(np.ones(8), (400, 2)).astype(np.float32)
    frames = np.array([i for i in range(first, last) if i % 17 < 12], dtype=np.int64)
    m = 2 * len(frames)
    start = np.datetime64(START.replace(tzinfo=None), "us")
    return Observations(
        ts=start + np.repeat(frames * 1_000_000 // FPS, 2).astype("timedelta64[us]"),
        track=np.tile(np.array([1, 2]), len(frames)) + 2 * (np.repeat(frames, 2) // 60),
        boxes=np.zeros((m, 4), np.float32),
        scores=np.ones(m, np.float32),
        probs=probs[frames].reshape(-1, 8),
        smoothed=np.zeros((m, 8), np.float32),
    )


def pieces(bounds: list[int], taken: list[int]) -> Iterator[Piece]:
    for number, (first, last) in enumerate(pairwise(bounds)):
        taken.append(number)
        segment = Segment(
            channel="c",
            broadcast=1,
            sequence=number,
            start=START + timedelta(seconds=first / FPS),
            start_is_estimated=False,
            duration_s=(last - first) / FPS,
            path=Path("clip.mp4"),
            width_px=640,
            height_px=360,
        )
        yield Piece(
            segment=segment,
            n_frames=last - first,
            observations=observations(first, last),
            tracker_state={},
        )


@pytest.mark.parametrize(
    "bounds",
    [[0, 200], list(range(0, 201, 10)), [0, 3, 4, 5, 37, 40, 41, 90, 180, 200]],
    ids=["whole", "windows of 2 s", "uneven"],
)
def test_the_bounds_of_windows_do_not_change_the_result(bounds: list[int]) -> None:
    given = list(centred_pieces(pieces(bounds, [])))
    assert [piece.segment.sequence for piece in given] == list(range(len(bounds) - 1))
    together = np.concatenate([piece.observations.smoothed for piece in given])
    whole = centred([observations(0, 200)], 0).smoothed
    np.testing.assert_allclose(together, whole, atol=1e-6)


def test_read_ahead_is_limited_to_the_width_of_the_means() -> None:
    taken: list[int] = []
    for done, _ in enumerate(centred_pieces(pieces(list(range(0, 201, 10)), taken))):
        assert len(taken) <= done + 1 + LOOK_S / 2
