from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from training.pictures.data import KEYWORD_TO_EMOTION


def portraits(n: int) -> NDArray[np.uint8]:
    """uint8 (n, 48, 48): one public-domain portrait, cropped and lit a little differently."""
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        gray = image.convert("L").crop((150, 20, 390, 260))
    rng = np.random.default_rng(3)
    faces = []
    for _ in range(n):
        x, y = rng.uniform(0, 40, 2)
        side = rng.uniform(180, 220)
        crop = gray.resize((48, 48), Image.Resampling.BOX, (x, y, x + side - x, y + side - y))
        faces.append(np.asarray(crop) * rng.uniform(0.5, 1.0))
    return np.stack(faces).astype(np.uint8)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small training data: 96 faces to train, 48 to validate, 48 to test; 12 of the press."""
    directory = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(7)
    split = np.repeat(np.array([0, 1, 2], np.uint8), (96, 48, 48))
    n = len(split)
    emotion = np.arange(n) % 8
    votes = np.zeros((n, 10), np.uint8)
    votes[np.arange(n), emotion] = 8
    votes[np.arange(n), rng.integers(0, 10, n)] += 2
    to_keyword = {e: k for k, e in enumerate(KEYWORD_TO_EMOTION)}
    keyword = np.array([to_keyword.get(e, 255) for e in emotion], np.uint8)
    np.savez(directory / "ferplus.npz", images=portraits(n), votes=votes, split=split)
    np.save(directory / "fer2013-labels.npy", keyword)
    (directory / "lfw" / "images").mkdir(parents=True)
    lines = ["path,label"]
    for i, picture in enumerate(portraits(12)):
        Image.fromarray(picture).resize((120, 120)).save(directory / f"lfw/images/{i}.jpg")
        lines.append(f"images/{i}.jpg,{('neutral', 'anger', 'disgust')[i % 3]}")
    (directory / "lfw" / "labels.csv").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)
