"""Anchors, decoding and non-maximum suppression: pure functions on tensors, all in pixels.

Constants and order of the anchors as in biubug6/Pytorch_Retinaface (`layers/functions/
prior_box.py`, `utils/box_utils.py`, `data/config.py`).
"""

from math import ceil
from typing import Final

import torch
from torch import Tensor

STRIDES_PX: Final = (8, 16, 32)
ANCHOR_SIDES_PX: Final = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
VARIANCES: Final = (0.1, 0.2)


def anchors(height_px: int, width_px: int) -> Tensor:
    """Return float32 (A, 4), centre x, centre y, width and height of each anchor.

    Level by level, row by row, cell by cell, the two sizes of a level side by side in each cell.
    """
    levels = []
    for stride, sides in zip(STRIDES_PX, ANCHOR_SIDES_PX, strict=True):
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
    """Return (A, B), the overlap of each of boxes (A, 4) with each of boxes (B, 4), 0 to 1."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    union = area_a[:, None] + area_b[None, :] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def suppress(boxes: Tensor, scores: Tensor, *, max_iou: float) -> Tensor:
    """Return indices of the boxes that greedy non-maximum suppression keeps, best first.

    boxes: (M, 4), of one frame. scores: (M,). Of equal scores the first wins. No boxes give no
    indices. Time and memory grow with M squared.

    A box falls if a kept box of a better score overlaps it by more than `max_iou`. Instead of
    one box after the other, all are judged at once against those kept so far, until nothing
    changes: box i is right after at most i rounds, in practice after two or three.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = boxes[order]
    rivals = (iou(boxes, boxes) > max_iou).triu(
        diagonal=1
    )  # rivals[i, j]: i is better than j and overlaps it
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        judged = ~(rivals & kept[:, None]).any(dim=0)
        if torch.equal(judged, kept):
            return order[kept]
        kept = judged
