"""Disturbances of the test pictures for the report, before crop and network."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from emotion.networks.expression import SIZE_PX
from training.pictures.augment import blur, side_light, warp

Gray = NDArray[np.uint8]


def as_found(images: Gray) -> NDArray[np.uint8]:
    """(N, S, S) gray -> (N, S, S, 3)."""
    return np.repeat(images[..., None], 3, axis=3)


def tensor(images: Gray) -> Tensor:
    """(N, S, S) -> (N, 1, S, S), 0 to 1."""
    return torch.from_numpy(images)[:, None].float() / 255


def pictures(x: Tensor) -> NDArray[np.uint8]:
    """(N, 1, S, S), 0 to 1 -> (N, S, S, 3)."""
    gray: Gray = (x[:, 0] * 255).round().clamp(0, 255).byte().numpy()
    return as_found(gray)


def _moved(
    images: Gray,
    *,
    degrees: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    mirror: float = 1.0,
) -> NDArray[np.uint8]:
    n = len(images)
    moved = warp(
        tensor(images),
        degrees=torch.full((n,), -degrees),  # `warp` rotates the view, not the face
        scale=torch.full((n,), scale),
        shift=torch.tensor([shift]).expand(n, 2),
        mirror=torch.full((n,), mirror),
        padding="border",
    )
    return pictures(moved)


def small(images: Gray, *, size_px: int) -> NDArray[np.uint8]:
    """Reduce faces to this size."""
    return pictures(F.interpolate(tensor(images), size=(size_px, size_px), mode="area"))


def _blurred(images: Gray, *, sigma_px: float) -> NDArray[np.uint8]:
    return pictures(blur(tensor(images), sigma_px))


def _lit(images: Gray, *, strength: float) -> NDArray[np.uint8]:
    n = len(images)
    return pictures(
        side_light(tensor(images), torch.full((n, 1, 1, 1), strength), torch.zeros((n, 1, 1, 1)))
    )


def _dim(images: Gray, *, gain: float) -> NDArray[np.uint8]:
    return pictures(tensor(images) * gain)


def _jpeg(images: Gray, *, quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    def again(image: Gray) -> Gray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded: Gray = np.asarray(Image.open(file))
        return decoded

    return as_found(np.stack([again(image) for image in images]))


def _tinted(images: Gray, *, gains: tuple[float, float, float]) -> NDArray[np.uint8]:
    tinted = as_found(images) * np.array(gains)
    rounded: Gray = tinted.round().clip(0, 255).astype(np.uint8)
    return rounded


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """A change that maps gray uint8 (N, 48, 48) to RGB (N, S, S, 3), S being `size_px`.

    roll_deg: clockwise rotation of faces and landmarks.
    """

    name: str
    apply: Callable[[Gray], NDArray[np.uint8]]
    roll_deg: float = 0.0
    size_px: int = SIZE_PX


def rolled(degrees: float) -> Disturbance:
    """Return the disturbance that rotates faces clockwise."""
    return Disturbance(
        name=f"roll {degrees}°", apply=partial(_moved, degrees=degrees), roll_deg=degrees
    )


DISTURBANCES: Final = (
    *(rolled(degrees) for degrees in (-15, -10, 10, 15, 30)),
    Disturbance(name="mirrored", apply=partial(_moved, mirror=-1.0)),
    Disturbance(name="shown 15 % larger", apply=partial(_moved, scale=1.15)),
    Disturbance(name="shown 15 % smaller", apply=partial(_moved, scale=1 / 1.15)),
    Disturbance(name="moved by 8 % of its side", apply=partial(_moved, shift=(0.16, 0.0))),
    Disturbance(name="24 px", apply=partial(small, size_px=24), size_px=24),
    Disturbance(name="16 px", apply=partial(small, size_px=16), size_px=16),
    Disturbance(name="blur, sigma 1 px", apply=partial(_blurred, sigma_px=1.0)),
    Disturbance(name="JPEG, quality 30", apply=partial(_jpeg, quality=30)),
    Disturbance(name="side light, 60 %", apply=partial(_lit, strength=0.6)),
    Disturbance(name="dark, a quarter of the light", apply=partial(_dim, gain=0.25)),
    Disturbance(name="tinted, R 1.25 G 1 B 0.6", apply=partial(_tinted, gains=(1.25, 1.0, 0.6))),
)
