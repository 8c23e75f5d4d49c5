import numpy as np
import pytest

from emotion.evaluate.score import answers, calibration_error, score


def sure_of(classes: list[int], confidence: float) -> np.ndarray:
    probs = np.full((len(classes), 8), (1 - confidence) / 7)
    probs[np.arange(len(classes)), classes] = confidence
    return probs


def test_accuracy_is_over_faces_and_mean_recall_over_classes() -> None:
    found = score(sure_of([0, 0, 0, 0], 0.9), np.array([0, 0, 0, 4]))
    assert found.accuracy == 0.75
    assert found.mean_recall == 0.5
    assert found.macro_f1 == pytest.approx((6 / 7 + 0) / 2)
    assert found.confusion[4, 0] == 1
    assert np.isnan(found.recall[1])


def test_unlabelled_faces_are_left_out() -> None:
    found = score(sure_of([1, 2], 0.9), np.array([1, -1]))
    assert (found.n, found.accuracy) == (1, 1.0)


def test_nothing_labelled_is_nan() -> None:
    found = score(sure_of([1], 0.9), np.array([-1]))
    assert found.n == 0
    assert np.isnan(found.accuracy)


def test_a_class_that_a_network_lacks_is_never_its_answer() -> None:
    probs = sure_of([3], 0.3)
    probs[0, 7] = np.nan
    assert answers(probs).tolist() == [3]


@pytest.mark.parametrize(
    ("right", "error"), [(8, 0.0), (10, 0.2), (5, 0.3)], ids=["honest", "shy", "boastful"]
)
def test_calibration_error_is_the_gap_to_accuracy(right: int, error: float) -> None:
    label = np.array([2] * right + [3] * (10 - right))
    assert calibration_error(sure_of([2] * 10, 0.8), label) == pytest.approx(error)
