"""Frames to faces."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion import boxes
from emotion.device import choose_device
from emotion.retinaface import MEAN_BGR, RetinaFace
from emotion.types import Faces, Frames

MIN_SCORE: Final = 0.7
MAX_IOU: Final = 0.4  # as biubug6/Pytorch_Retinaface, `detect.py`

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
        device: str | torch.device = "auto",
        min_score: float = MIN_SCORE,
        max_iou: float = MAX_IOU,
    ) -> None:
        """Load the network.

        weights: tensors by name, as `weights.load` gives them. min_score, max_iou: 0 to 1.
        Raises DeviceError for a device that is not there.
        """
        self.device = choose_device(device) if isinstance(device, str) else device
        self.min_score = min_score
        self.max_iou = max_iou
        self._mean = torch.tensor(MEAN_BGR, device=self.device).view(1, 3, 1, 1)
        network = RetinaFace()
        network.load_state_dict(weights)
        network.eval().to(self.device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def detect(self, frames: Frames) -> Faces:
        """Return the faces of all frames, frame by frame, the best of each frame first.

        Boxes and landmarks are in source pixels; boxes end at the picture's edge.
        """
        n, height, width, _ = frames.images.shape
        step = max(1, _BATCH_PX.get(self.device.type, 0) // max(1, height * width))
        parts = [self._candidates(frames.images[i : i + step], i) for i in range(0, n, step)]
        if not parts:
            return no_faces()
        frame, score, box, landmarks = (torch.cat(columns) for columns in zip(*parts, strict=True))
        kept = boxes.suppress(box, score, frame, max_iou=self.max_iou)
        kept = kept[torch.argsort(frame[kept], stable=True)]  # by frame, and in it by score
        scale = torch.tensor(
            (frames.source_width_px / width, frames.source_height_px / height), device=self.device
        )
        limit = torch.tensor((width, height), device=self.device, dtype=torch.float32)
        corners = box[kept].view(-1, 2, 2).clamp(min=torch.zeros_like(limit), max=limit)
        inside = ((corners[:, 1] - corners[:, 0]) >= 1).all(dim=1)
        kept, corners = kept[inside], corners[inside]
        return Faces(
            frame=frame[kept].cpu().numpy(),
            boxes=(corners * scale).view(-1, 4).cpu().numpy(),
            scores=score[kept].cpu().numpy(),
            landmarks=(landmarks[kept] * scale).cpu().numpy(),
        )

    def _candidates(
        self, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], first: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return frame, score, box and landmarks (in the frames' pixels) above the threshold."""
        rgb = torch.tensor(images).to(self.device)  # (N, H, W, 3)
        bgr = rgb.permute(0, 3, 1, 2).flip(1).float()  # (N, 3, H, W)
        offsets, logits, points = self._network(
            (bgr - self._mean).contiguous(memory_format=torch.channels_last)
        )
        scores = torch.softmax(logits, dim=2)[:, :, 1]  # (N, A)
        frame, anchor = (scores >= self.min_score).nonzero(as_tuple=True)
        at = _anchors(rgb.shape[1], rgb.shape[2], self.device)[anchor]
        return (
            frame + first,
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
