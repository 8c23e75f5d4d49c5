import pytest
import torch
from torch import nn

from emotion.networks import fuse
from emotion.networks.fuse import N_VALUES, FusedRetinaFace
from emotion.networks.retinaface import RetinaFace


@pytest.fixture
def pictures() -> torch.Tensor:
    torch.manual_seed(3)
    return (torch.rand(2, 3, 75, 130) * 255 - 120).contiguous(memory_format=torch.channels_last)


def _network(backbone: str) -> RetinaFace:
    torch.manual_seed(5)
    network = RetinaFace(backbone).eval()  # type: ignore[arg-type]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("backbone", ["mobilenet0.25", "resnet50"])
@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "torch alone"])
@torch.inference_mode()
def test_it_answers_as_the_network_it_was_made_of(pictures, backbone, onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr(fuse, "_onednn_works", lambda *dtype: False)
    network = _network(backbone)
    boxes, classes, landmarks = network(pictures)
    answers = FusedRetinaFace(network).eval()(pictures)
    assert answers.shape == (2, boxes.shape[1], N_VALUES)
    for part, expected in zip(
        answers.split((4, 2, 10), dim=2), (boxes, classes, landmarks), strict=True
    ):
        scale = float(expected.abs().max())
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-4 * scale)


def test_no_convolution_is_followed_by_a_pass_of_its_own_where_onednn_is_there():
    if not fuse._onednn_works():
        pytest.skip("this torch has no oneDNN")
    fused = FusedRetinaFace(_network("mobilenet0.25"))
    assert not [m for m in fused.modules() if isinstance(m, nn.LeakyReLU)]
