import numpy as np
import pytest

from emotion.evaluate.score import calibration_error
from emotion.types import EMOTIONS
from training.learning import rule
from training.pictures import data
from training.pictures.press import Press


def evidence(voted: np.ndarray, keyword: np.ndarray) -> rule.Evidence:
    return rule.Evidence(
        voted=voted,
        keyword=keyword,
        voted_prior=np.full(8, 1 / 8),
        keyword_prior=np.full(7, 1 / 7),
    )


def test_calibration_prefers_the_better_head() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 7, 400)
    pictures = data.Pictures(
        images=np.zeros((400, 48, 48), np.uint8),
        votes=np.eye(8, dtype=np.float32)[label],
        majority=label,
        official=label,
        keyword=label,
    )
    press = Press(images=pictures.images, label=label, turned=np.zeros(400))
    knows, guesses = 4 * np.eye(8)[label], rng.normal(0, 3, (400, 7))
    seen = evidence(knows, guesses)
    grid = {"shares": rule.SHARES[::4], "priors": rule.PRIORS[::5]}
    found = rule.calibrate(seen, pictures, seen, press, **grid)
    assert found.share >= 0.5
    answer = evidence(knows, guesses).probs(found).argmax(axis=1)
    assert rule.figures(answer, pictures)["votes_accuracy"] > 0.98


def test_sharpness_never_changes_an_answer_and_meets_accuracy() -> None:
    rng = np.random.default_rng(4)
    probs = rule.softmax(rng.normal(0, 1, (2000, 8)))
    label = np.where(rng.random(2000) < 0.9, probs.argmax(axis=1), 7)
    power = rule.sharpness([(probs, label)])
    sharp = probs**power
    sharp /= sharp.sum(axis=1, keepdims=True)
    assert power > 1
    np.testing.assert_array_equal(sharp.argmax(axis=1), probs.argmax(axis=1))
    assert calibration_error(sharp, label) < calibration_error(probs, label)


def test_of_calm_faces_it_counts_those_called_negative() -> None:
    calm, angry = EMOTIONS.index("neutral"), EMOTIONS.index("anger")
    glad, sad, amazed = (EMOTIONS.index(e) for e in ("happiness", "sadness", "surprise"))
    label = np.array([calm] * 5 + [angry] * 2 + [-1])
    found = rule.press_figures(np.array([calm, glad, amazed, sad, angry, angry, calm, sad]), label)
    assert found["calm_negative"] == pytest.approx(2 / 5)
    assert found["calm_angry"] == pytest.approx(1 / 5)
    assert found["anger_found"] == pytest.approx(1 / 2)
    assert found["press_accuracy"] == pytest.approx(2 / 7)


def test_a_goal_counts_what_is_missing_and_its_margin() -> None:
    most, least = rule.Goal(wanted=0.04, weight=1, at_most=True), rule.Goal(wanted=0.8, weight=1)
    assert most.short(0.10) == pytest.approx(0.07)
    assert least.short(0.75) == pytest.approx(0.06)
    assert most.short(0.02) == least.short(0.9) == 0
    assert [most.met(v) for v in (0.04, 0.05)] == [True, False]
    assert [least.met(v) for v in (0.8, 0.79)] == [True, False]
