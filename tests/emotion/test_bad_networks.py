"""Wrong weights, too little memory and NaN outputs give one-line errors."""

import io
import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.device import Batches, DeviceError, choose_device, place
from emotion.errors import OutputsError, WrongNetwork
from emotion.types import Faces, Frames
from emotion.weights import store as weights
from emotion.weights.convert import retinaface_resnet50

DETECTOR = "retinaface-mobilenet0.25"
EMOTIONS_BY = "showmood-expression-2"


@pytest.fixture
def tensors(cache_dir) -> dict[str, Tensor]:
    return weights.load(DETECTOR, cache_dir)


@pytest.mark.parametrize("name", ["mini-xception", EMOTIONS_BY])
def test_an_emotion_network_is_no_detector(cache_dir, name):
    with pytest.raises(WrongNetwork, match=f"not the weights of {DETECTOR}: bbox_head") as error:
        Detector(weights.load(name, cache_dir), device="cpu")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_one_backbone_is_not_the_other(tensors):
    with pytest.raises(WrongNetwork, match="not the weights of retinaface-resnet50"):
        Detector(tensors, model="retinaface-resnet50", device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t | {"fpn.merge1.0.bias": torch.zeros(3)}, r"is \(3,\) where \(64,\)"),
        (lambda t: {k: v for k, v in t.items() if k != "fpn.merge1.0.bias"}, "is missing"),
        (lambda t: t | {"fpn.merge9.0.bias": torch.zeros(3)}, "is unknown"),
        (lambda t: t | {"fpn.merge1.0.bias": torch.full((64,), torch.nan)}, "is not finite"),
    ],
    ids=["shape", "missing", "surplus", "nan"],
)
def test_what_differs_is_named(tensors, change, said):
    with pytest.raises(WrongNetwork, match=f"fpn.merge[19].0.bias {said}"):
        Detector(change(tensors), device="cpu")


class _Runs:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize("kind", ["code", "cut short", "text", "a list", "half of it"])
def test_a_file_that_is_no_checkpoint_is_one_clear_line_and_never_runs(kind):
    file = io.BytesIO()
    whole = {"ClassHead.0.conv1x1.weight": torch.ones(4, 8, 1, 1)}
    content = {"code": {"weight": _Runs()}, "a list": [torch.ones(2)]}.get(kind, whole)
    torch.save(content, file)
    data = {"cut short": file.getvalue()[:300], "text": b"Not Found"}.get(kind, file.getvalue())
    with pytest.raises(ValueError, match=r"not a (torch )?checkpoint") as error:
        retinaface_resnet50(data)
    assert "\n" not in str(error.value)


class Small(nn.Module):
    """Simulates limited device memory: a maximum batch size."""

    def __init__(self, network: nn.Module, at_most: int) -> None:
        super().__init__()
        self.network = network
        self.at_most = at_most
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.network(x)


def _shrunk(part: Detector | Classifier, at_most: int) -> Small:
    small = Small(part._network, at_most)
    part._network = small
    return small


def _many(portrait, n=5) -> Frames:
    return Frames(
        images=np.stack([portrait[::2, ::2]] * n),
        offset_s=np.arange(n) / 5,
        source_width_px=512,
        source_height_px=600,
    )


def test_a_detector_that_runs_out_of_memory_takes_half_and_says_so_once(tensors, portrait, caplog):
    caplog.set_level(logging.WARNING)
    frames = _many(portrait)
    expected = Detector(tensors, device="cpu").detect(frames)
    detector = Detector(tensors, device="cpu")
    small = _shrunk(detector, at_most=2)
    found = [detector.detect(frames) for _ in range(2)]
    for faces in found:
        np.testing.assert_allclose(faces.boxes, expected.boxes, atol=1e-2)
        assert faces.frame.tolist() == expected.frame.tolist()
    assert small.seen == [5, 2, 2, 1, 2, 2, 1]
    assert [r.message for r in caplog.records] == [
        "out of memory with a batch of 5 frames: batches of 2 from now on"
    ]


def test_a_classifier_that_runs_out_of_memory_takes_half_until_it_fits(
    detector, portrait_frames, caplog
):
    model = weights.emotion_model(EMOTIONS_BY)
    one = detector.detect(portrait_frames)
    n = 14
    faces = Faces(
        frame=np.repeat(one.frame, n),
        boxes=np.repeat(one.boxes, n, axis=0),
        scores=np.repeat(one.scores, n),
        landmarks=np.repeat(one.landmarks, n, axis=0),
    )
    classifier = Classifier.of(model, device="cpu")
    expected = classifier.classify(portrait_frames, faces)
    small = _shrunk(classifier, at_most=4)
    np.testing.assert_allclose(classifier.classify(portrait_frames, faces), expected, atol=1e-6)
    assert small.seen == [14, 7, 3, 3, 3, 3, 2]
    assert len(caplog.records) == 2


def test_too_little_memory_for_one_frame_is_one_clear_line(tensors, portrait):
    detector = Detector(tensors, device="cpu")
    _shrunk(detector, at_most=0)
    with pytest.raises(DeviceError, match="not enough memory for one of the frames") as error:
        detector.detect(_many(portrait))
    assert "\n" not in str(error.value)


def test_batches_cover_everything_in_order():
    spans = Batches("things").over(10, 4, lambda rows: (rows.start, rows.stop))
    assert spans == [(0, 4), (4, 8), (8, 10)]
    assert Batches("things").over(0, 4, lambda rows: rows) == []


class Broken(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer = self.network(x)
        if isinstance(answer, Tensor):
            return answer * torch.nan
        return tuple(part * torch.nan for part in answer)


def test_a_detector_that_answers_nan_refuses_the_segment(tensors, portrait):
    detector = Detector(tensors, device="cpu")
    detector._network = Broken(detector._network)
    with pytest.raises(OutputsError, match=f"{DETECTOR} returned") as error:
        detector.detect(_many(portrait, 1))
    assert "\n" not in str(error.value)


def test_a_classifier_that_answers_nan_refuses_the_segment(detector, portrait_frames):
    model = weights.emotion_model(EMOTIONS_BY)
    classifier = Classifier.of(model, device="cpu")
    classifier._network = Broken(classifier._network)
    with pytest.raises(OutputsError, match=f"{EMOTIONS_BY} returned"):
        classifier.classify(portrait_frames, detector.detect(portrait_frames))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:9", "tpu", "cpu:x", ""])
def test_a_device_that_is_not_here_is_one_clear_line(name):
    with pytest.raises(DeviceError, match=r"no device .* (use auto, cpu or cuda|has cpu)") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_scale_and_order_of_colours_are_folded_into_the_first_convolution(tensors, portrait):
    """The same network, with a record in RGB from 0 to 1, finds the same faces."""
    plain = weights.detector_model(DETECTOR)
    told = replace(
        plain,
        colour="rgb",
        mean=plain.mean[::-1],
        std=(255.0, 255.0, 255.0),
    )
    first = "body.stage1.0.0.weight"
    rgb = tensors | {first: tensors[first].flip(1) * 255}
    expected = Detector(tensors, device="cpu").detect(_many(portrait, 1))
    found = Detector(rgb, model=told, device="cpu").detect(_many(portrait, 1))
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    assert place(nn.Identity(), {}, torch.device("cpu"), name="nothing")
