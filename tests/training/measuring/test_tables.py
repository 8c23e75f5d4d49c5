import numpy as np

from emotion.evaluate.score import score
from emotion.types import EMOTIONS
from training.measuring.measure_press import PressFigures
from training.measuring.tables import on_press

CALM, ANGER = EMOTIONS.index("neutral"), EMOTIONS.index("anger")


def test_the_share_of_few_angry_faces_is_omitted() -> None:
    label = np.array([CALM, CALM, ANGER, ANGER])
    probs = np.eye(8, dtype=np.float32)[[CALM, ANGER, ANGER, ANGER]]
    short = {
        "press_accuracy": 0.75,
        "press_recall": 0.75,
        "calm_negative": 0.5,
        "calm_angry": 0.5,
        "anger_found": 1.0,
    }
    group = {**short, "n": 4.0, "angry": 2.0}
    text = on_press(
        {
            "ours": PressFigures(
                found=score(probs, label),
                whole=score(probs, label),
                in_short=short,
                groups={"dark": group, "bright": {**group, "angry": 20.0}},
                single=group,
                smoothed=group,
            )
        }
    )
    assert "| calm faces called angry | 50.0 % |" in text
    assert "| recall of anger (2) | 100.0 % |" in text
    assert "| dark | 4 | 75.0 % | 50.0 % | – |" in text
    assert "| bright | 4 | 75.0 % | 50.0 % | 100.0 % |" in text
