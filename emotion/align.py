"""Faces to crops, for all faces of a segment at once.

Each crop is a square of the picture, turned where the rule says so, brought to a fixed size by
bilinear sampling at twice that size and averaging, so that large faces do not alias.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emotion.types import Faces, Float64, Frames
from emotion.weights import CropRule

BT601: Final = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601), as the gray pictures of FER2013 were made."""

_OVERSAMPLING: Final = 2
_MIN_EYE_DISTANCE: Final = 0.15  # of the box's width: in profile the eyes' line says nothing


def squares(faces: Faces, rule: CropRule) -> tuple[Float64, Float64, Float64]:
    """Return centres (M, 2) and sides (M,) in source pixels, and roll angles (M,) in radians.

    The angle is that of the line from the person's right eye to the left, clockwise as seen, and
    0 where the rule leaves the face as it is.
    """
    box = faces.boxes.astype(np.float64)
    centre = (box[:, :2] + box[:, 2:]) / 2
    side = (box[:, 2:] - box[:, :2]).max(axis=1, initial=0) * (1 + 2 * rule.margin)
    eyes = (faces.landmarks[:, 1] - faces.landmarks[:, 0]).astype(np.float64)
    angle = np.arctan2(eyes[:, 1], eyes[:, 0])
    if rule.derotate_above_deg is None:
        return centre, side, np.zeros_like(angle)
    apart = np.hypot(eyes[:, 0], eyes[:, 1]) > _MIN_EYE_DISTANCE * (box[:, 2] - box[:, 0])
    turned = apart & (np.abs(angle) > np.deg2rad(rule.derotate_above_deg))
    return centre, side, np.where(turned, angle, 0.0)


def crops(
    frames: Frames,
    faces: Faces,
    rule: CropRule,
    *,
    size_px: int,
    gray: bool,
    device: torch.device,
) -> Tensor:
    """Return float32 (M, C, size_px, size_px), 0 to 255, C being 1 (gray) or 3 (RGB).

    What lies outside the picture repeats its edge. No faces give a tensor of length 0.
    """
    n_channels = 1 if gray else 3
    if len(faces) == 0:
        return torch.zeros((0, n_channels, size_px, size_px), device=device)
    _, height, width, _ = frames.images.shape
    pixels = torch.tensor(frames.images).to(device)  # (N, H, W, 3) uint8
    x, y = _points(frames, faces, rule, size_px * _OVERSAMPLING, device)  # (M, P, P) each
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    dx, dy = (x - left)[..., None], (y - top)[..., None]
    frame = torch.from_numpy(faces.frame).to(device)[:, None, None]
    luma = torch.tensor(BT601, device=device)

    def at(row: Tensor, column: Tensor) -> Tensor:
        values = pixels[frame, row, column].float()  # (M, P, P, 3)
        return values @ luma[:, None] if gray else values

    upper = at(top, left) * (1 - dx) + at(top, right) * dx
    lower = at(bottom, left) * (1 - dx) + at(bottom, right) * dx
    fine = (upper * (1 - dy) + lower * dy).permute(0, 3, 1, 2)  # (M, C, P, P)
    return functional.avg_pool2d(fine, _OVERSAMPLING)


def _points(
    frames: Frames, faces: Faces, rule: CropRule, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return x and y (M, size, size) in the frames' pixels, 0 being the first pixel's centre."""
    centre, side, angle = squares(faces, rule)
    ticks = (torch.arange(size, device=device) + 0.5) / size - 0.5  # (size,), of the side
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")  # down and right

    def column(values: Float64) -> Tensor:
        return torch.from_numpy(values).to(device, torch.float32)[:, None, None]

    cos, sin, length = column(np.cos(angle)), column(np.sin(angle)), column(side)
    x = column(centre[:, 0]) + length * (u * cos - v * sin)
    y = column(centre[:, 1]) + length * (u * sin + v * cos)
    _, height, width, _ = frames.images.shape
    return (
        x * (width / frames.source_width_px) - 0.5,
        y * (height / frames.source_height_px) - 0.5,
    )
