"""Pose of a face, from its landmarks."""

import numpy as np
import pytest

from emotion.linking.pose import pose

AHEAD = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], dtype=np.float32)


@pytest.mark.parametrize("degrees", [0, 20, -35])
@pytest.mark.parametrize("shift", [0, 10, -20])
def test_roll_and_yaw_are_independent(degrees, shift):
    face = AHEAD.copy()
    face[2, 0] += shift
    a = np.radians(degrees)
    face = face @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    ((roll, yaw),) = pose(face[None].astype(np.float32))
    assert roll == pytest.approx(degrees, abs=1e-3)
    assert yaw == pytest.approx(shift / 40, abs=1e-5)


def test_eyes_at_one_place_tell_nothing_and_no_face_is_no_row():
    assert np.isnan(pose(np.zeros((1, 5, 2), dtype=np.float32))).all()
    assert pose(np.zeros((0, 5, 2), dtype=np.float32)).shape == (0, 2)
