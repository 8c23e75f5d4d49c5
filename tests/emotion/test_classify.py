from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion import classify
from emotion.align import crops
from emotion.classify import Classifier
from emotion.detection.detect import no_faces
from emotion.types import EMOTIONS, Faces
from emotion.weights import store as weights


@pytest.fixture(scope="module")
def tensors(cache_dir: Path) -> dict[str, torch.Tensor]:
    return weights.load("mini-xception", cache_dir)


@pytest.fixture(scope="module")
def faces(detector, portrait_frames) -> Faces:
    return detector.detect(portrait_frames)


MODEL = weights.emotion_model("mini-xception")


def test_columns_are_in_the_order_of_emotions(tensors, portrait_frames, faces):
    classifier = Classifier(MODEL, tensors, device="cpu")
    probs = classifier.classify(portrait_frames, faces)[0]
    size_px, cpu = MODEL.input_px, torch.device("cpu")
    picture = crops(portrait_frames, faces, MODEL.crop, size_px=size_px, gray=True, device=cpu)
    outputs = classifier.probabilities(picture)[0].tolist()
    assert dict(zip(MODEL.classes, outputs, strict=True)) == pytest.approx(
        {name: probs[EMOTIONS.index(name)] for name in MODEL.classes}
    )


def test_a_class_that_the_network_lacks_is_nan_and_the_others_sum_to_one(
    tensors, portrait_frames, faces
):
    probs = Classifier(MODEL, tensors, device="cpu").classify(portrait_frames, faces)
    assert probs.dtype == np.float32
    assert np.isnan(probs[:, EMOTIONS.index("contempt")]).all()
    np.testing.assert_allclose(np.nansum(probs, axis=1), 1, atol=1e-6)


def test_an_output_to_leave_out_takes_no_probability(tensors, portrait_frames, faces):
    model = replace(MODEL, classes=(*MODEL.classes[:5], None, MODEL.classes[6]))
    probs = Classifier(model, tensors, device="cpu").classify(portrait_frames, faces)
    assert np.isnan(probs[0, EMOTIONS.index("surprise")])
    np.testing.assert_allclose(np.nansum(probs, axis=1), 1, atol=1e-6)


def test_flip_averages_the_crop_and_its_mirror_image(tensors):
    picture = torch.rand((3, 1, 64, 64), generator=torch.Generator().manual_seed(0)) * 255
    plain = Classifier(MODEL, tensors, device="cpu")
    flipped = Classifier(replace(MODEL, flip=True), tensors, device="cpu")
    mean = (plain.probabilities(picture) + plain.probabilities(picture.flip(3))) / 2
    torch.testing.assert_close(flipped.probabilities(picture), mean)


def test_more_faces_than_a_batch_are_all_classified(tensors, portrait_frames, faces):
    many = Faces(
        frame=np.repeat(faces.frame, 70),
        boxes=np.repeat(faces.boxes, 70, axis=0),
        scores=np.repeat(faces.scores, 70),
        landmarks=np.repeat(faces.landmarks, 70, axis=0),
    )
    probs = Classifier(MODEL, tensors, device="cpu").classify(portrait_frames, many)
    np.testing.assert_allclose(probs, np.repeat(probs[:1], 70, axis=0), atol=1e-6)


def test_no_faces_give_no_rows(tensors, portrait_frames):
    probs = Classifier(MODEL, tensors, device="cpu").classify(portrait_frames, no_faces())
    assert probs.shape == (0, 8)


def test_half_precision_moves_no_probability_by_more_than_a_hundredth(
    cache_dir, monkeypatch, portrait
):
    gray = torch.from_numpy(portrait[107:328, 155:376].mean(axis=2))[None, None].float()
    faces = torch.nn.functional.interpolate(gray, (48, 48), mode="area")
    faces = torch.cat([faces * light for light in (0.3, 0.6, 1.0)] + [faces.flip(3)])

    def said(half):
        monkeypatch.setattr(classify, "half_type", lambda device: half)
        model = weights.emotion_model("showmood-expression-2")
        return Classifier.of(model, cache_dir=cache_dir, device="cpu").probabilities(faces)

    exact, half = said(None), said(torch.bfloat16)
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, atol=0.01, rtol=0)
