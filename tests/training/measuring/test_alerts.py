import numpy as np

from emotion.types import EMOTIONS
from training.measuring import alerts

CALM, ANGER = EMOTIONS.index("neutral"), EMOTIONS.index("anger")


def test_a_threshold_counts_calm_faces_and_real_ones() -> None:
    label = np.array([CALM] * 200 + [ANGER] * 4 + [-1])
    probs = np.zeros((len(label), 8), np.float32)
    probs[:3, ANGER] = 0.55
    probs[:2, ANGER] = 0.75
    probs[200:203, ANGER] = 0.95
    probs[-1, ANGER] = 1
    calm, real = alerts.shares(probs, label, ANGER)
    np.testing.assert_allclose(calm * 200, [3, 3, 3, 2, 2, 0, 0])
    np.testing.assert_allclose(real, 0.75)
    assert alerts.begin_with(calm) == 0.6
    row = alerts.lines(("anger",), probs, label)[0]
    assert row[0] == "anger (4)"
    assert row[4] == "**1.0 / 75.0 %**"


def test_where_no_threshold_is_quiet_the_highest_is_taken() -> None:
    assert alerts.begin_with(np.full(len(alerts.THRESHOLDS), 0.2)) == 0.9
