"""Faces to crops, for all faces of a segment at once.

Each crop is a rectangle of the picture, turned where the rule says so, brought to a square of a
fixed size by bilinear sampling about as fine as the picture's own pixels and averaging: large
faces do not alias, and small ones are not blurred.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emotion.records import CropRule
from emotion.types import Faces, Float64, Frames, UInt8

BT601: Final = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601), as the gray pictures of FER2013 were made."""

_MAX_OVERSAMPLING: Final = 8
_MIN_EYE_DISTANCE: Final = 0.15  # of the box's width: in profile the eyes' line says nothing


def regions(faces: Faces, rule: CropRule) -> tuple[Float64, Float64, Float64]:
    """Return centres and sizes (M, 2) x y in the faces' pixels, and roll angles (M,) in radians.

    The angle is that of the line from the person's right eye to the left, clockwise as seen, and
    0 where the rule leaves the face as it is.
    """
    box = faces.boxes.astype(np.float64)
    centre = (box[:, :2] + box[:, 2:]) / 2
    size = (box[:, 2:] - box[:, :2]) * (1 + 2 * rule.margin)
    if rule.shape == "square":
        size = np.repeat(size.max(axis=1, initial=0)[:, None], 2, axis=1)
    eyes = (faces.landmarks[:, 1] - faces.landmarks[:, 0]).astype(np.float64)
    angle = np.arctan2(eyes[:, 1], eyes[:, 0])
    if rule.derotate_above_deg is None:
        return centre, size, np.zeros_like(angle)
    apart = np.hypot(eyes[:, 0], eyes[:, 1]) > _MIN_EYE_DISTANCE * (box[:, 2] - box[:, 0])
    turned = apart & (np.abs(angle) > np.deg2rad(rule.derotate_above_deg))
    return centre, size, np.where(turned, angle, 0.0)


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
    _, height, width, _ = frames.images.shape
    shape = np.array((width, height))
    # In the frames' pixels: they are square, the source's need not be.
    scale = (shape / (frames.source_width_px, frames.source_height_px)).astype(np.float32)
    faces = replace(faces, boxes=faces.boxes * np.tile(scale, 2), landmarks=faces.landmarks * scale)
    centre, size, angle = regions(faces, rule)
    side_px = size.max(axis=1, initial=0)
    fineness = np.ceil(side_px / size_px - 0.25).clip(1, _MAX_OVERSAMPLING).astype(np.int64)
    out = torch.zeros((len(faces), 1 if gray else 3, size_px, size_px), device=device)
    for frame in np.unique(faces.frame):
        plane = _plane(frames.images[frame], gray=gray, device=device)
        here = faces.frame == frame
        for times in np.unique(fineness[here]):  # faces of about a size together
            rows = np.flatnonzero(here & (fineness == times))
            points = _points(size_px * times, centre[rows], size[rows], angle[rows])
            grid = torch.from_numpy(points / shape * 2 - 1).to(device, torch.float32)
            fine = functional.grid_sample(
                plane, grid.flatten(0, 1)[None], padding_mode="border", align_corners=False
            )  # (1, C, M * P, P)
            fine = fine.view(-1, *grid.shape[:3]).transpose(0, 1)  # (M, C, P, P)
            out[torch.from_numpy(rows).to(device)] = functional.avg_pool2d(fine, int(times))
    return out


def _plane(image: UInt8, *, gray: bool, device: torch.device) -> Tensor:
    """Return float32 (1, C, H, W), 0 to 255, of one picture (H, W, 3)."""
    rgb = torch.tensor(image).to(device).float()  # (H, W, 3)
    if gray:
        return (rgb @ torch.tensor(BT601, device=device))[None, None]
    return rgb.permute(2, 0, 1)[None]


def _points(n: int, centre: Float64, size: Float64, angle: Float64) -> Float64:
    """Return (M, n, n, 2), x y in the frames' pixels, of the points of each crop, row by row.

    centre, size: (M, 2). angle: (M,).
    """
    ticks = (np.arange(n) + 0.5) / n - 0.5
    v, u = np.meshgrid(ticks, ticks, indexing="ij")  # (n, n), down and right, of the sides
    across, down = size[:, 0, None, None] * u, size[:, 1, None, None] * v  # (M, n, n)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    points: Float64 = np.stack((across * cos - down * sin, across * sin + down * cos), axis=-1)
    return points + centre[:, None, None, :]
