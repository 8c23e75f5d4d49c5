"""Real weights, pulled once into the default cache, and a portrait from matplotlib."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from emotion.detection.detect import Detector
from emotion.types import Frames
from emotion.weights import store as weights


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    for name in ("retinaface-mobilenet0.25", "mini-xception"):
        weights.pull(name)
    return weights.default_cache_dir()


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """Return matplotlib's public-domain portrait, uint8 (600, 512, 3) RGB, one face."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def portrait_frames(portrait: NDArray[np.uint8]) -> Frames:
    return Frames(
        images=portrait[None],
        offset_s=np.zeros(1),
        source_width_px=portrait.shape[1],
        source_height_px=portrait.shape[0],
    )


@pytest.fixture(scope="session")
def detector(cache_dir: Path) -> Detector:
    return Detector(weights.load("retinaface-mobilenet0.25", cache_dir), device="cpu")
