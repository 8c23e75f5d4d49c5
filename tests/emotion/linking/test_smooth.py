import json
from math import exp

import numpy as np
import pytest

from emotion.linking.smooth import LOOK_S, Smoother, centred
from emotion.types import Observations, StateError

HAPPY = np.eye(8, dtype=np.float32)[1]
SAD = np.eye(8, dtype=np.float32)[3]


def _one(smoother, ts_s, probs, track=1):
    row = smoother.update(round(ts_s * 1e6), np.array([track]), probs[None])
    assert row.dtype == np.float32
    return row[0]


def test_the_first_frame_stays_as_it_is():
    np.testing.assert_array_equal(_one(Smoother(), 5.0, HAPPY), HAPPY)


def test_frames_weigh_less_the_older_they_are():
    smoother = Smoother(time_constant_s=2.0)
    _one(smoother, 0.0, HAPPY)
    mean = _one(smoother, 1.0, SAD)
    old = exp(-0.5)
    np.testing.assert_allclose(mean[[1, 3]], [old / (old + 1), 1 / (old + 1)], rtol=1e-6)


def test_agrees_with_the_weighted_sum_over_uneven_times():
    rng = np.random.default_rng(0)
    times, probs = np.cumsum(rng.uniform(0.1, 0.9, 30)), rng.dirichlet(np.ones(8), 30)
    smoother = Smoother(time_constant_s=1.0)
    rows = [_one(smoother, t, p.astype(np.float32)) for t, p in zip(times, probs, strict=True)]
    for i, row in enumerate(rows):
        weights = np.exp(times[: i + 1] - times[i])
        np.testing.assert_allclose(row, weights @ probs[: i + 1] / weights.sum(), atol=1e-5)


def test_a_steady_face_keeps_its_value():
    probs = np.array([0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05], dtype=np.float32)
    smoother = Smoother()
    for i in range(20):
        row = _one(smoother, i / 5, probs)
    np.testing.assert_allclose(row, probs, atol=1e-6)


def test_a_class_that_is_never_seen_stays_nan_and_the_rest_sums_to_one():
    probs = np.full(8, 1 / 7, dtype=np.float32)
    probs[7] = np.nan
    smoother = Smoother()
    for i in range(3):
        row = _one(smoother, i / 5, probs)
        assert np.isnan(row[7])
        assert np.nansum(row) == pytest.approx(1)


def test_a_class_that_is_missing_once_keeps_its_mean():
    smoother = Smoother()
    _one(smoother, 0.0, np.full(8, 1 / 8, dtype=np.float32))
    partial = np.full(8, 1 / 7, dtype=np.float32)
    partial[7] = np.nan
    row = _one(smoother, 0.2, partial)
    assert 0.1 < row[7] < 0.13
    assert row.sum() == pytest.approx(1)


def test_tracks_do_not_mix():
    smoother = Smoother()
    rows = smoother.update(0, np.array([1, 2]), np.stack((HAPPY, SAD)))
    np.testing.assert_array_equal(rows, np.stack((HAPPY, SAD)))
    rows = smoother.update(200_000, np.array([2, 1]), np.stack((SAD, HAPPY)))
    np.testing.assert_array_equal(rows, np.stack((SAD, HAPPY)))


def test_a_dropped_track_starts_again():
    smoother = Smoother()
    _one(smoother, 0.0, HAPPY)
    smoother.keep(frozenset({7}))
    np.testing.assert_array_equal(_one(smoother, 0.2, SAD), SAD)
    assert [row["track"] for row in smoother.state] == [1]


def test_a_frame_without_faces_changes_nothing():
    smoother = Smoother()
    _one(smoother, 0.0, HAPPY)
    before = smoother.state
    rows = smoother.update(100, np.zeros(0, np.int64), np.zeros((0, 8), np.float32))
    assert rows.shape == (0, 8)
    assert smoother.state == before


def test_continues_exactly_from_its_state():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(8), 6).astype(np.float32)
    probs[:, 5] = np.nan
    smoother = Smoother()
    for i in range(3):
        _one(smoother, i / 3, probs[i])
    again = Smoother.from_state(json.loads(json.dumps(smoother.state, allow_nan=False)))
    for i in range(3, 6):
        np.testing.assert_array_equal(_one(again, i / 3, probs[i]), _one(smoother, i / 3, probs[i]))


@pytest.mark.parametrize("state", [[{}], [{"track": 1, "seen_us": 0, "mean": [1], "weight": []}]])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(StateError):
        Smoother.from_state(state)


def _seen(ts_s, track, probs):
    m = len(ts_s)
    return Observations(
        ts=np.round(np.array(ts_s) * 1e6).astype(np.int64).astype("datetime64[us]"),
        track=np.array(track, dtype=np.int64),
        boxes=np.zeros((m, 4), np.float32),
        scores=np.ones(m, np.float32),
        probs=np.array(probs, np.float32),
        smoothed=np.zeros((m, 8), np.float32),
    )


def test_centred_agrees_with_the_weighted_sum_of_both_sides():
    rng = np.random.default_rng(0)
    times, probs = np.cumsum(rng.uniform(0.1, 0.9, 30)), rng.dirichlet(np.ones(8), 30)
    rows = centred([_seen(times, [1] * 30, probs)], 0, time_constant_s=1.0).smoothed
    for i, row in enumerate(rows):
        apart = np.abs(times - times[i])
        weights = np.exp(-apart) * (apart <= LOOK_S)
        np.testing.assert_allclose(row, weights @ probs / weights.sum(), atol=1e-5)


def test_centred_keeps_tracks_apart_and_a_missing_class_missing():
    probs = np.stack((HAPPY, SAD) * 3)
    probs[:, 7] = np.nan
    rows = centred([_seen(np.repeat(np.arange(3) / 5, 2), [1, 2] * 3, probs)], 0).smoothed
    np.testing.assert_allclose(rows, probs)


def test_a_step_is_not_late_when_the_future_is_known():
    times = np.arange(41) / 5
    probs = np.where(times[:, None] < 4, HAPPY, SAD)
    rows = centred([_seen(times, [1] * 41, probs)], 0).smoothed
    assert (rows[:20, 1] > 0.5).all()
    assert (rows[20:, 3] > 0.5).all()


def test_centred_over_nothing_is_nothing():
    assert centred([_seen([], [], np.zeros((0, 8)))], 0).smoothed.shape == (0, 8)
