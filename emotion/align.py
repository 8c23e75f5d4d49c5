"""Faces to crops, for all faces of a segment at once.

Each crop is a rectangle of the picture, rotated if the rule requires it, resampled to a square of
a fixed size: bilinear sampling at about the picture's resolution, then averaging, so that large
faces do not alias and small ones are not blurred.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emotion.device import bring
from emotion.types import Faces, Float64, Frames, Int64
from emotion.weights.records import CropRule

BT601: Final = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601), as the gray pictures of FER2013 were made."""

_THUMBNAIL_PX: Final = 16
_MAX_OVERSAMPLING: Final = 8
_MIN_EYE_DISTANCE: Final = 0.15  # of the box's width: in profile the line of the eyes is useless


def regions(faces: Faces, rule: CropRule) -> tuple[Float64, Float64, Float64]:
    """Return centres and sizes (M, 2) x y in the faces' pixels, and roll angles (M,) in radians.

    The angle is that of the line from the person's right eye to the left, clockwise in the
    picture, and 0 if the rule does not rotate the face.
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
    pictures: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return float32 (M, C, size_px, size_px), 0 to 255, C being 1 (gray) or 3 (RGB).

    pictures: the frames as uint8 (H, W, 3), if they are already on the device; then only the sizes
    of `frames` are used. Outside the picture its border is repeated. No faces give length 0.
    """
    _, height, width, _ = frames.images.shape
    shape = np.array((width, height))
    # In the frames' pixels, which are square; the source's may not be.
    scale = (shape / (frames.source_width_px, frames.source_height_px)).astype(np.float32)
    faces = replace(faces, boxes=faces.boxes * np.tile(scale, 2), landmarks=faces.landmarks * scale)
    centre, size, angle = regions(faces, rule)
    side_px = size.max(axis=1, initial=0)
    fineness = np.ceil(side_px / size_px - 0.25).clip(1, _MAX_OVERSAMPLING).astype(np.int64)
    out = torch.zeros((len(faces), 1 if gray else 3, size_px, size_px), device=device)
    if len(faces) == 0:
        return out
    order = np.lexsort((fineness, faces.frame))  # groups faces of one picture and similar size
    fineness, frame = fineness[order], faces.frame[order]
    if pictures is None:
        pictures = bring(frames.images, device).unbind()
    turn = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    where = np.concatenate((centre, size, turn), axis=1)[order]
    placed = torch.from_numpy(where.astype(np.float32)).to(device)
    low, high = _reach(where, width, height)
    changes = (np.diff(frame) != 0) | (np.diff(fineness) != 0)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(order)]
    luma = torch.tensor(BT601, device=device) if gray else None
    parts = []
    for begin, end in pairwise(bounds):
        (left, top), (right, bottom) = low[begin:end].min(axis=0), high[begin:end].max(axis=0)
        plane = _plane(pictures[int(frame[begin])][top:bottom, left:right], luma)
        times = int(fineness[begin])
        grid = _grid(size_px * times, placed[begin:end], (left, top), plane)
        fine = functional.grid_sample(
            plane, grid.flatten(0, 1)[None], padding_mode="border", align_corners=False
        )  # (1, C, M * P, P)
        fine = fine.view(-1, *grid.shape[:3]).transpose(0, 1)  # (M, C, P, P)
        parts.append(functional.avg_pool2d(fine, times))
    out[torch.from_numpy(order).to(device)] = torch.cat(parts)
    return out


def thumbnails(frames: Frames, faces: Faces, rule: CropRule, pictures: Sequence[Tensor]) -> Tensor:
    """Return float32 (M, 256), 0 to 255: the faces in gray, small, to be compared.

    pictures: as `crops` takes them. Cut at whole pixels, upright, and at the picture's edge.
    """
    _, height, width, _ = frames.images.shape
    scale = np.array((width / frames.source_width_px, height / frames.source_height_px))
    centre, size, _ = regions(faces, rule)
    corners = np.rint(np.stack((centre - size / 2, centre + size / 2), axis=1) * scale)
    low = corners[:, 0].clip(0, (width - 1, height - 1)).astype(np.int64)
    high = corners[:, 1].clip(low + 1, (width, height)).astype(np.int64)
    places = zip(faces.frame.tolist(), low.tolist(), high.tolist(), strict=True)
    parts = [
        functional.interpolate(
            pictures[frame][top:bottom, left:right].permute(2, 0, 1)[None],
            size=(_THUMBNAIL_PX, _THUMBNAIL_PX),
            mode="bilinear",
            antialias=True,
        )
        for frame, (left, top), (right, bottom) in places
    ]
    rgb = torch.cat(parts).flatten(2).float()  # (M, 3, P)
    return torch.tensor(BT601, device=rgb.device) @ rgb


def _reach(where: Float64, width_px: int, height_px: int) -> tuple[Int64, Int64]:
    """Return (M, 2) x y of the first pixel (inclusive) and the last (exclusive) of each crop.

    where: (M, 6), centre, size, cosine and sine of the angle. Never empty.
    """
    cos, sin = np.abs(where[:, 4]), np.abs(where[:, 5])
    half_x, half_y = where[:, 2] / 2, where[:, 3] / 2
    reach = np.stack((half_x * cos + half_y * sin, half_x * sin + half_y * cos), axis=1)
    edge = np.array((width_px, height_px))
    low = np.floor(where[:, :2] - reach - 1).clip(0, edge - 1).astype(np.int64)
    high = np.ceil(where[:, :2] + reach + 1).clip(low + 1, edge).astype(np.int64)
    return low, high


def _plane(rgb: Tensor, luma: Tensor | None) -> Tensor:
    """Return float32 (1, C, H, W), 0 to 255, of a picture (H, W, 3): gray if there are weights."""
    if luma is not None:
        return (rgb.float() @ luma)[None, None]
    return rgb.float().permute(2, 0, 1)[None]


def _grid(n: int, where: Tensor, origin: tuple[int, int], plane: Tensor) -> Tensor:
    """Return (M, n, n, 2), the points of each crop, row by row, -1 to 1 in the plane.

    where: (M, 6), centre, size, cosine and sine of the angle. origin: x y of the plane's first
    pixel.
    """
    ticks = (torch.arange(n, device=where.device) + 0.5) / n - 0.5
    x, y, width, height, cos, sin = (column[:, None, None] for column in where.unbind(1))
    across, down = width * ticks, height * ticks[:, None]  # (M, 1, n) and (M, n, 1)
    right = x + across * cos - down * sin  # (M, n, n)
    below = y + across * sin + down * cos
    scale_x, scale_y = 2 / plane.shape[3], 2 / plane.shape[2]
    return torch.stack(
        ((right - origin[0]) * scale_x - 1, (below - origin[1]) * scale_y - 1), dim=-1
    )
