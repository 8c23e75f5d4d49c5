"""The goals of linking, on the programmes of `benchmarks.tracks.measure`."""

import pytest

from benchmarks.tracks.drawn import Cast
from benchmarks.tracks.measure import Result, alone, end_to_end
from benchmarks.tracks.moving import MOVING
from benchmarks.tracks.programmes import PROGRAMMES

NAMES = [programme.name for programme in PROGRAMMES]


@pytest.fixture(scope="module")
def cast(detector):
    return Cast(detector)


@pytest.mark.parametrize("programme", PROGRAMMES, ids=NAMES)
def test_faces_keep_their_tracks_at_five_frames_a_second(programme):
    result = sum((alone(programme, 5, seed) for seed in range(1000, 1003)), Result())
    # Two faces hidden by a third at once are swapped in some runs.
    assert result.scores.idf1 >= (0.85 if programme.name == "two pass a third, closely" else 0.97)
    assert result.across_cuts == 0


@pytest.mark.parametrize(
    "programme", [p for p in PROGRAMMES if p.name != "the camera pans"], ids=lambda p: p.name
)
def test_faces_mostly_keep_their_tracks_at_two_frames_a_second(programme):
    result = sum((alone(programme, 2, seed) for seed in range(1000, 1003)), Result())
    assert result.scores.idf1 >= 0.93
    assert result.across_cuts == 0


@pytest.mark.parametrize(
    ("name", "fps", "idf1"),
    [
        ("hard cuts in one set", 2, 0.98),
        ("two pass each other", 3, 0.97),
        pytest.param("hard cuts in one set", 5, 0.98, marks=pytest.mark.long),
        pytest.param("two pass each other", 5, 0.98, marks=pytest.mark.long),
    ],
)
def test_faces_in_pictures_keep_their_tracks(name, fps, idf1, cast, detector):
    result = end_to_end(PROGRAMMES[NAMES.index(name)], fps, cast, detector)
    assert result.scores.idf1 >= idf1
    assert result.scores.switches == 0
    assert result.across_cuts == 0


def test_faces_keep_their_tracks_before_a_camera_in_a_hand_that_zooms():
    programme = next(p for p in MOVING if p.name == "a camera in a hand, zooming")
    result = sum((alone(programme, 5, seed) for seed in range(1000, 1006)), Result())
    assert result.scores.idf1 >= 0.85
