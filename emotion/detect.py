"""Frames to faces."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion import boxes
from emotion.device import Batches, choose_device, place
from emotion.errors import OutputsError
from emotion.retinaface import FIRST, RetinaFace
from emotion.types import Faces, Frames, UInt8
from emotion.weights import DEFAULT_DETECTOR, DetectorModel, detector_model

MIN_SCORE: Final = 0.7
MAX_IOU: Final = 0.4  # as biubug6/Pytorch_Retinaface, `detect.py`

_MAX_CANDIDATES: Final = 1000  # of a frame, the best; what suppression costs grows with the square

# What runs through the network at once: five frames of 640x360 keep two CPU cores' caches busy
# without spilling over; a GPU wants more.
_BATCH_PX: Final = {"cpu": 5 * 640 * 360, "cuda": 64 * 640 * 360}


@lru_cache(maxsize=4)
def _anchors(height_px: int, width_px: int, device: torch.device) -> Tensor:
    return boxes.anchors(height_px, width_px).to(device)


class Detector:
    """RetinaFace over the frames of a segment."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        model: DetectorModel | str = DEFAULT_DETECTOR,
        device: str | torch.device = "auto",
        min_score: float = MIN_SCORE,
        max_iou: float = MAX_IOU,
    ) -> None:
        """Load the network.

        weights: tensors by name, as `weights.load` gives them. model: their record, or its name.
        min_score, max_iou: 0 to 1. Raises DeviceError for a device that is not there,
        WrongNetwork for weights of something else.
        """
        self.model = detector_model(model) if isinstance(model, str) else model
        self.device = choose_device(device) if isinstance(device, str) else device
        self.min_score = min_score
        self.max_iou = max_iou
        mean, std = torch.tensor(self.model.mean), torch.tensor(self.model.std)
        network = RetinaFace(self.model.backbone)
        self._network = place(network, weights, self.device, name=self.model.name)
        # Frames are RGB, 0 to 255: the first convolution is scaled and turned round, once,
        # instead of every picture.
        first = self._network.get_parameter(FIRST[self.model.backbone])
        with torch.no_grad():
            first.div_(std.view(1, 3, 1, 1).to(self.device))
            if self.model.colour == "bgr":
                first.copy_(first.flip(1))
                mean = mean.flip(0)
        self._mean = mean.to(self.device)
        self._batches = Batches("frames")

    @torch.inference_mode()
    def detect(self, frames: Frames) -> Faces:
        """Return the faces of all frames, frame by frame, the best of each frame first.

        Boxes and landmarks are in source pixels; boxes end at the picture's edge.
        """
        n, height, width, _ = frames.images.shape
        step = max(1, _BATCH_PX.get(self.device.type, 0) // max(1, height * width))
        scale = np.array((frames.source_width_px / width, frames.source_height_px / height))
        found = [
            one
            for part in self._batches.over(
                n, step, lambda rows: self._found(frames.images[rows], rows.start)
            )
            for one in part
        ]
        if not found:
            return no_faces()
        frame = np.repeat([i for i, *_ in found], [len(score) for _, score, _, _ in found])
        _, scores, corners, landmarks = zip(*found, strict=True)
        return Faces(
            frame=frame.astype(np.int64),
            boxes=(torch.cat(corners).numpy() * np.tile(scale, 2)).astype(np.float32),
            scores=torch.cat(scores).numpy(),
            landmarks=(torch.cat(landmarks).numpy() * scale).astype(np.float32),
        )

    def _found(self, images: UInt8, first: int) -> list[tuple[int, Tensor, Tensor, Tensor]]:
        """Return frame number, scores, boxes, landmarks of each frame, in the frames' pixels."""
        _, height, width, _ = images.shape
        edge = torch.tensor((width, height, width, height), dtype=torch.float32)
        frame, scores, corners, landmarks = (t.cpu() for t in self._candidates(images))
        if not torch.isfinite(corners).all():
            raise OutputsError(f"{self.model.name} answered with boxes that are no numbers")
        found = []
        for i in range(len(images)):
            rows = (frame == i).nonzero()[:, 0]
            rows = rows[torch.argsort(scores[rows], descending=True, stable=True)[:_MAX_CANDIDATES]]
            rows = rows[boxes.suppress(corners[rows], scores[rows], max_iou=self.max_iou)]
            inside = corners[rows].clamp(min=torch.zeros(4), max=edge)
            whole = (inside[:, 2:] - inside[:, :2] >= 1).all(dim=1)
            rows = rows[whole]
            found.append((first + i, scores[rows], inside[whole], landmarks[rows]))
        return found

    def _candidates(self, images: UInt8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return frame, score, box and landmarks of all that is above the threshold."""
        rgb = torch.tensor(images).to(self.device).float().sub_(self._mean)  # (N, H, W, 3)
        offsets, logits, points = self._network(rgb.permute(0, 3, 1, 2))  # channels last already
        scores = torch.softmax(logits, dim=2)[:, :, 1]  # (N, A)
        if not torch.isfinite(scores.sum()):
            raise OutputsError(f"{self.model.name} answered with scores that are no numbers")
        frame, anchor = (scores >= self.min_score).nonzero(as_tuple=True)
        at = _anchors(rgb.shape[1], rgb.shape[2], self.device)[anchor]
        return (
            frame,
            scores[frame, anchor],
            boxes.decode_boxes(offsets[frame, anchor], at),
            boxes.decode_landmarks(points[frame, anchor], at),
        )


def no_faces() -> Faces:
    """Return the faces of frames without faces."""
    return Faces(
        frame=np.zeros(0, dtype=np.int64),
        boxes=np.zeros((0, 4), dtype=np.float32),
        scores=np.zeros(0, dtype=np.float32),
        landmarks=np.zeros((0, 5, 2), dtype=np.float32),
    )
