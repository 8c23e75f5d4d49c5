"""Detection of faces in frames."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion.detection import boxes
from emotion.device import Batches, bring, choose_device, half_type, place
from emotion.errors import OutputsError
from emotion.networks.fuse import FusedRetinaFace
from emotion.networks.retinaface import FIRST, RetinaFace
from emotion.types import Faces, Float64, Frames
from emotion.weights.store import DEFAULT_DETECTOR, DetectorModel, detector_model

MIN_SCORE: Final = 0.7
MAX_IOU: Final = 0.4  # as biubug6/Pytorch_Retinaface, `detect.py`

COARSE_PX: Final = 48.0
"""Side of a face in px from which the anchors of 64 px and more detect it."""

MAX_CANDIDATES: Final = 1000  # best of a frame; the cost of suppression is quadratic

# Pixels per batch: on a CPU what fits its caches, on a GPU a whole segment.
_BATCH_PX: Final = {"cpu": 2 * 640 * 360, "cuda": 64 * 640 * 360}


@lru_cache(maxsize=8)
def _anchors(height_px: int, width_px: int, finest: bool, device: torch.device) -> Tensor:
    return boxes.anchors(height_px, width_px, n_left_out=0 if finest else 1).to(device)


class Detector:
    """RetinaFace on the frames of a segment."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        model: DetectorModel | str = DEFAULT_DETECTOR,
        device: str | torch.device = "auto",
        min_score: float = MIN_SCORE,
        max_iou: float = MAX_IOU,
        exact: bool = True,
    ) -> None:
        """Load the network.

        weights: tensors by name, as from `weights.load`. model: their record, or its name.
        min_score, max_iou: 0 to 1. exact: on a CPU compute in float32; otherwise in half precision
        if the CPU supports it, which moves boxes by 0.2 % of their side (median).
        Raises DeviceError for an unavailable device, WrongNetwork for weights of another network.
        """
        self.model = detector_model(model) if isinstance(model, str) else model
        self.device = choose_device(device) if isinstance(device, str) else device
        self.min_score = min_score
        self.max_iou = max_iou
        mean, std = torch.tensor(self.model.mean), torch.tensor(self.model.std)
        blank = RetinaFace(self.model.backbone)
        network = place(blank, weights, self.device, name=self.model.name)
        # Frames are RGB, 0 to 255: scaling and channel order are folded into the first
        # convolution.
        first = network.get_parameter(FIRST[self.model.backbone])
        with torch.no_grad():
            first.div_(std.view(1, 3, 1, 1).to(self.device))
            if self.model.colour == "bgr":
                first.copy_(first.flip(1))
                mean = mean.flip(0)
        self.mean = mean.to(self.device)
        half = None if exact and self.device.type == "cpu" else half_type(self.device)
        self._dtype = half or torch.float32
        self._network = FusedRetinaFace(network.to(self._dtype)).eval()
        self._batches = Batches("frames")

    def part_px(self) -> int:
        """Return the batch size for this device, in pixels."""
        return _BATCH_PX.get(self.device.type, _BATCH_PX["cpu"])

    @torch.inference_mode()
    def detect(self, frames: Frames, pictures: Tensor | None = None) -> Faces:
        """Return the faces of all frames, frame by frame, the best of each frame first.

        pictures: the frames' images if they are already on the device. Boxes and landmarks are
        in source pixels; boxes are clipped to the picture. Raises OutputsError if the network
        returns NaN or infinity, DeviceError if the device has not enough memory for one frame.
        """
        n, height, width, _ = frames.images.shape
        step = max(1, self.part_px() // max(1, height * width))
        if pictures is None:
            pictures = bring(frames.images, self.device)
        found = self._batches.over(n, step, lambda rows: self._found(pictures[rows], rows))
        if not found:
            return no_faces()
        values = np.concatenate(found)
        scale = np.array((frames.source_width_px / width, frames.source_height_px / height))
        return Faces(
            frame=values[:, 0].astype(np.int64),
            boxes=(values[:, 2:6] * np.tile(scale, 2)).astype(np.float32),
            scores=values[:, 1].astype(np.float32),
            landmarks=(values[:, 6:].reshape(-1, 5, 2) * scale).astype(np.float32),
        )

    def _found(self, images: Tensor, rows: slice) -> Float64:
        """Return (M, 16): frame number, score, box and landmarks, in the frames' pixels."""
        _, height, width, _ = images.shape
        frame, scores, corners, landmarks = self.candidates(self.centred(images))
        kept = boxes.suppress(
            corners, scores, max_iou=self.max_iou, frame=frame, most=MAX_CANDIDATES
        )
        columns = (frame[:, None], scores[:, None], corners, landmarks.flatten(1))
        values: Float64 = torch.cat([c.double() for c in columns], dim=1)[kept].cpu().numpy()
        if not np.isfinite(values).all():
            raise OutputsError(f"{self.model.name} returned boxes that are NaN or infinity")
        values[:, 0] += rows.start
        inside = values[:, 2:6]
        np.clip(inside, 0, (width, height) * 2, out=inside)
        return values[(inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)]

    def centred(self, images: Tensor) -> Tensor:
        """Return pictures (N, H, W, 3) minus the mean, in the network's type."""
        n, height, width, _ = images.shape
        # On flat rows in float32: broadcasting over three channels takes five times as long,
        # half precision twice as long.
        rows = images.reshape(n, height, -1).float().sub_(self.mean.repeat(width))
        return rows.to(self._dtype).view(n, height, width, 3)

    def candidates(
        self, rgb: Tensor, *, finest: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return picture, score, box and landmarks, in pixels, of all above the threshold.

        rgb: (N, H, W, 3), minus the mean. finest: False to omit the level for faces under
        `COARSE_PX`, two fifths of the time.
        """
        _, height, width, _ = rgb.shape
        pixels = rgb.to(self._dtype).permute(0, 3, 1, 2)  # channels last already
        answers = self._network(pixels) if finest else self._network.coarse(pixels)
        # Of two classes, softmax is the sigmoid of the difference.
        scores = torch.sigmoid(answers[..., 5].float() - answers[..., 4].float())  # (N, A)
        if not torch.isfinite(scores.sum()):
            raise OutputsError(f"{self.model.name} returned scores that are NaN or infinity")
        frame, anchor = (scores >= self.min_score).nonzero(as_tuple=True)
        at = _anchors(height, width, finest, self.device)[anchor]
        values = answers[frame, anchor].float()
        return (
            frame,
            scores[frame, anchor],
            boxes.decode_boxes(values[:, :4], at),
            boxes.decode_landmarks(values[:, 6:], at),
        )


def no_faces() -> Faces:
    """Return the faces of frames without faces."""
    return Faces(
        frame=np.zeros(0, dtype=np.int64),
        boxes=np.zeros((0, 4), dtype=np.float32),
        scores=np.zeros(0, dtype=np.float32),
        landmarks=np.zeros((0, 5, 2), dtype=np.float32),
    )
