from pathlib import Path

import numpy as np
import pytest

from emotion.detection.detect import Detector
from emotion.types import EMOTIONS
from emotion.weights import store as weights
from training.pictures import press
from training.pictures.data import DataError

RULE = weights.emotion_model(weights.DEFAULT_EMOTION_MODEL).crop


def test_what_is_labelled_at_random_is_left_out(data_dir: Path) -> None:
    paths, label = press.labelled(data_dir)
    assert len(paths) == len(label) == 8
    assert set(label) == {EMOTIONS.index("neutral"), EMOTIONS.index("anger")}


def test_faces_are_cut_as_the_product_does_it_or_whole(data_dir: Path) -> None:
    weights.pull(weights.DEFAULT_DETECTOR)
    detector = Detector(weights.load(weights.DEFAULT_DETECTOR), device="cpu")
    whole, found = press.load(data_dir, RULE, None), press.load(data_dir, RULE, detector)
    assert whole.images.shape == found.images.shape == (8, 48, 48)
    assert (whole.label >= 0).all()
    assert (found.label >= 0).any()
    assert not np.array_equal(whole.images, found.images)


def test_a_nose_between_the_eyes_looks_ahead() -> None:
    ahead = np.array([[30, 40], [70, 40], [50, 60], [35, 76], [65, 76]], np.float32)
    aside = ahead + np.array([[0, 0], [0, 0], [20, 0], [0, 0], [0, 0]], np.float32)
    tilted = ahead @ np.array([[0.8, 0.6], [-0.6, 0.8]], np.float32)
    np.testing.assert_allclose(
        press.beside(np.stack((ahead, aside, tilted))), [0, 0.5, 0], atol=1e-6
    )


def test_missing_press_photographs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="path,label"):
        press.labelled(tmp_path)
