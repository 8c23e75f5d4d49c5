import numpy as np
import pytest

from emotion.linking.cuts import CUT, N_BINS, Shots, difference, histograms


def _noisy(image, seed):
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _differ(a, b):
    first, second = histograms(np.stack((a, b)))
    return difference(first, second)


@pytest.fixture
def studio(portrait) -> np.ndarray:
    """Return the portrait before a plain wall, uint8 (360, 640, 3)."""
    image = np.full((360, 640, 3), (127, 128, 127), dtype=np.uint8)
    image[60:360, 100:356] = portrait[::2, ::2]
    return image


def test_rows_sum_to_one(studio):
    rows = histograms(np.stack((studio, studio[::-1], np.zeros_like(studio))))
    assert rows.shape == (3, N_BINS)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("value", range(0, 256, 5))
def test_noise_and_drifting_light_on_a_plain_wall_are_no_cut(value):
    wall = np.full((90, 160, 3), value, dtype=np.uint8)
    lighter = np.clip(wall.astype(int) + 6, 0, 255).astype(np.uint8)
    assert _differ(_noisy(wall, 0), _noisy(lighter, 1)) < CUT / 2


def test_a_face_that_moves_is_no_cut(studio):
    assert _differ(studio, np.roll(studio, 40, axis=1)) < CUT


def test_another_scene_is_a_cut(studio, portrait):
    other = np.repeat(portrait[:360, :320], 2, axis=1)
    assert _differ(studio, other) > CUT


def test_the_same_scene_the_other_way_round_is_a_cut():
    half = np.zeros((90, 160, 3), dtype=np.uint8)
    half[:, 80:] = 220
    assert _differ(half, half[:, ::-1]) > CUT


def test_another_colour_of_the_same_brightness_is_a_cut():
    red, green = (np.full((90, 160, 3), c, dtype=np.uint8) for c in ((200, 0, 0), (0, 102, 0)))
    assert _differ(red, green) > CUT


def test_to_black_is_a_cut(studio):
    assert _differ(studio, np.zeros_like(studio)) > CUT


@pytest.mark.parametrize("shape", [(0, 90, 160), (2, 1, 1), (1, 3, 500)])
def test_any_size_will_do(shape):
    rows = histograms(np.zeros((*shape, 3), dtype=np.uint8))
    assert rows.shape == (shape[0], N_BINS)
    np.testing.assert_allclose(rows.sum(axis=1), 1)


def _shares(moved):
    """Return a histogram that differs from `_shares(0)` by `moved`."""
    row = np.zeros(N_BINS, dtype=np.float32)
    row[:2] = 1 - moved, moved
    return row


def _cuts(differences, *, faces_stay=False):
    """Return whether each frame after the first, at this distance, begins a new shot."""
    shots = Shots()
    shots.see(_shares(0), faces_stay=lambda: faces_stay)
    return [shots.see(_shares(d), faces_stay=lambda: faces_stay) for d in differences]


def test_a_jump_that_is_unusual_for_the_shot_is_a_cut():
    assert _cuts([0.01, 0, 0.01, 0.14]) == [False, False, False, True]


def test_a_jump_is_no_cut_where_the_faces_stay_where_they_were():
    assert _cuts([0.01, 0, 0.01, 0.14], faces_stay=True) == [False] * 4
    assert _cuts([0.01, 0, 0.01, 0.44], faces_stay=True) == [False] * 3 + [True]


def test_a_shot_that_moves_all_the_time_has_no_cut():
    assert _cuts([0.06, 0, 0.06, 0, 0.14]) == [False] * 5


def test_what_is_usual_survives_a_restart():
    shots = Shots()
    for d in (0, 0.01, 0):
        shots.see(_shares(d), faces_stay=lambda: False)
    again = Shots.from_state(*shots.state)
    assert again.state == shots.state
    assert again.see(_shares(0.14), faces_stay=lambda: False)
