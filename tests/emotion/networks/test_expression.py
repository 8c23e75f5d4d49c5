import numpy as np
import pytest
import torch

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.networks.expression import ExpressionNet
from emotion.types import EMOTIONS, Frames
from emotion.weights import store as weights

NAME = "showmood-expression-2"


@pytest.fixture(scope="module")
def net() -> ExpressionNet:
    network = ExpressionNet()
    network.load_state_dict(weights.load(NAME))
    return network.eval()


@pytest.fixture
def faces() -> torch.Tensor:
    coarse = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bicubic").clamp(0, 1)


@torch.inference_mode()
def test_probabilities_of_all_eight(net: ExpressionNet, faces: torch.Tensor) -> None:
    probs = net(faces)
    assert probs.shape == (5, len(EMOTIONS))
    assert (probs > 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(5))


@torch.inference_mode()
def test_light_does_not_matter(net: ExpressionNet, faces: torch.Tensor) -> None:
    torch.testing.assert_close(net(faces), net(faces * 0.5 + 0.2), atol=0.05, rtol=0)


@torch.inference_mode()
def test_a_face_gets_the_same_answer_in_any_company(
    net: ExpressionNet, faces: torch.Tensor
) -> None:
    torch.testing.assert_close(net(faces)[2:3], net(faces[2:3]), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_face_of_one_gray_is_no_accident(net: ExpressionNet) -> None:
    assert torch.isfinite(net(torch.full((1, 1, 48, 48), 0.5))).all()


def test_ships_small_and_whole_and_is_the_default() -> None:
    assert weights.DEFAULT_EMOTION_MODEL == NAME
    record = weights.emotion_model(NAME)
    assert record.classes == EMOTIONS
    path = weights.pull(NAME)
    assert path.parent.name == "weights"
    assert path.stat().st_size <= 8_000_000
    assert path.with_suffix(".md").exists()


def test_the_portrait_is_calm_and_friendly(detector: Detector, portrait_frames: Frames) -> None:
    classifier = Classifier(weights.emotion_model(NAME), weights.load(NAME), device="cpu")
    faces = detector.detect(portrait_frames)
    probs = classifier.classify(portrait_frames, faces)[0]
    assert not np.isnan(probs).any()
    assert probs[EMOTIONS.index("neutral")] + probs[EMOTIONS.index("happiness")] > 0.6
