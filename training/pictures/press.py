"""Labelled faces of press photographs, for validation and the choice of the rule, not for training.

`lfw/labels.csv` (`path,label`) names half of an expression-labelled LFW, gray pictures of up to
160 px, each the crop of a face. Its labels are rough, and disgust is labelled at random, so it is
excluded. Faces are cropped by our own detector, as in production, and alternatively as
the whole labelled crop.
"""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from emotion.align import crops
from emotion.detection.detect import Detector
from emotion.evaluate.measure import largest_faces
from emotion.networks.expression import SIZE_PX
from emotion.types import EMOTIONS
from emotion.weights.records import CropRule
from training.pictures.data import DataError

log = logging.getLogger("training")

LABELS: Final = "lfw/labels.csv"
LEFT_OUT: Final = frozenset({"disgust"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Press:
    """Faces as the network sees them.

    images: uint8 (N, 48, 48), gray. label: int64 (N,), index into `EMOTIONS`; -1 without a
    detected face. turned: (N,), yaw proxy, see `beside`; 0 without a detector.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    turned: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.images)


def labelled(directory: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """Return the pictures' files and labels (N,). Raises DataError if the list is missing."""
    file = directory / LABELS
    try:
        with file.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["label"] not in LEFT_OUT]
        label = np.array([EMOTIONS.index(row["label"]) for row in rows], np.int64)
        return [file.parent / row["path"] for row in rows], label
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{file}: a CSV of path,label with our emotions is needed: {error}"
        ) from error


def load(directory: Path, rule: CropRule, detector: Detector | None) -> Press:
    """Crop every face, by the detector's box or, if it is None, as the whole labelled crop.

    Raises DataError as `labelled` does.
    """
    paths, label = labelled(directory)
    images = np.zeros((len(paths), SIZE_PX, SIZE_PX), np.uint8)
    turned, found = np.zeros(len(paths)), np.zeros(len(paths), bool)
    for at, frames, faces in largest_faces(paths, detector, margin=rule.margin):
        seen = crops(frames, faces, rule, size_px=SIZE_PX, gray=True, device=torch.device("cpu"))
        images[at[faces.frame]] = seen[:, 0].round().clamp(0, 255).byte().numpy()
        turned[at[faces.frame]] = beside(faces.landmarks)
        found[at[faces.frame]] = True
    return Press(images=images, label=np.where(found, label, -1), turned=turned)


def beside(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """(M, 5, 2) -> (M,) offset of the nose from the midpoint of the eyes, along their line.

    In distances of the eyes: 0 for a frontal face, about 0.5 at 45 degrees.
    """
    right, left, nose = (landmarks[:, i].astype(np.float64) for i in range(3))
    eyes = left - right
    along = ((nose - (left + right) / 2) * eyes).sum(axis=1)
    away: NDArray[np.float64] = np.abs(along) / np.maximum((eyes**2).sum(axis=1), 1.0)
    return away
