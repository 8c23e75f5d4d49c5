"""Anchors, decoding and non-maximum suppression: pure functions on tensors, all in pixels.

Constants and order of the anchors as in biubug6/Pytorch_Retinaface (`layers/functions/
prior_box.py`, `utils/box_utils.py`, `data/config.py`).
"""

from math import ceil
from typing import Final

import torch
from torch import Tensor

from emotion.types import Float32, Float64

STRIDES_PX: Final = (8, 16, 32)
ANCHOR_SIDES_PX: Final = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
VARIANCES: Final = (0.1, 0.2)


def anchors(height_px: int, width_px: int, *, n_left_out: int = 0) -> Tensor:
    """Return float32 (A, 4), centre x, centre y, width and height of each anchor.

    Level by level, row by row, cell by cell, the two sizes of a level side by side in each cell.
    n_left_out: number of the finest levels to omit.
    """
    levels = []
    for stride, sides in list(zip(STRIDES_PX, ANCHOR_SIDES_PX, strict=True))[n_left_out:]:
        y = (torch.arange(ceil(height_px / stride)) + 0.5) * stride
        x = (torch.arange(ceil(width_px / stride)) + 0.5) * stride
        side = torch.tensor(sides)
        cy, cx, size = torch.meshgrid(y, x, side, indexing="ij")
        levels.append(torch.stack((cx, cy, size, size), dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Return (M, 4) corners x0 y0 x1 y1 of box offsets (M, 4) from their anchors (M, 4)."""
    centre = anchors[:, :2] + offsets[:, :2] * VARIANCES[0] * anchors[:, 2:]
    half = anchors[:, 2:] * torch.exp(offsets[:, 2:] * VARIANCES[1]) / 2
    return torch.cat((centre - half, centre + half), dim=1)


def decode_landmarks(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Return (M, 5, 2) points x y of landmark offsets (M, 10) from their anchors (M, 4)."""
    points = offsets.reshape(-1, 5, 2) * VARIANCES[0]
    return anchors[:, None, :2] + points * anchors[:, None, 2:]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return (..., A, B), the overlap of boxes (..., A, 4) with boxes (..., B, 4), 0 to 1."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (high - low).clamp_(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    union = area_a[..., :, None] + area_b[..., None, :] - shared
    return shared / union.clamp_(min=torch.finfo(union.dtype).tiny)


def iou_of(a: Float32, b: Float32) -> Float64:
    """Return (A, B), the overlap of boxes (A, 4) with boxes (B, 4), 0 to 1."""
    return iou(torch.from_numpy(a).double(), torch.from_numpy(b).double()).numpy()


def suppress(
    boxes: Tensor, scores: Tensor, *, max_iou: float, frame: Tensor | None = None, most: int = 0
) -> Tensor:
    """Return indices of the boxes that greedy non-maximum suppression keeps, best first.

    boxes: (M, 4). scores: (M,). frame: int64 (M,), from 0, the picture of each box (None: one
    picture); pictures are independent, and indices are grouped by picture. most: number of the
    best boxes of a picture to consider; 0 for all. Of equal scores the first wins. No boxes
    give no indices. Time and memory are quadratic in the boxes of a picture.

    A box is suppressed if a kept box of a better score overlaps it by more than `max_iou`. All
    boxes are evaluated in parallel against the currently kept ones, until nothing
    changes: box i is final after at most i rounds, in practice after two or three.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    if len(order) == 0:
        return order
    if frame is None:
        frame = torch.zeros_like(order)
    order = order[torch.argsort(frame[order], stable=True)]
    frame = frame[order]
    counts = torch.bincount(frame)
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[frame]
    n_most = int(counts.max())
    if 0 < most < n_most:
        n_most, best = most, rank < most
        order, frame, rank = order[best], frame[best], rank[best]
    shape = (len(counts), n_most)
    rows = torch.zeros((*shape, 4), dtype=boxes.dtype, device=boxes.device)
    rows[frame, rank] = boxes[order]  # (F, K, 4), padded with boxes without an area
    rivals = (iou(rows, rows) > max_iou).triu_(
        diagonal=1
    )  # rivals[f, i, j]: i is better than j and overlaps it
    kept = torch.ones(shape, dtype=torch.bool, device=boxes.device)
    while True:
        judged = ~(rivals & kept[..., None]).any(dim=-2)
        if torch.equal(judged, kept):
            return order[kept[frame, rank]]
        kept = judged
