"""Milliseconds per face, and of the detector per frame, measured alternately."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.types import Faces, Frames

ROUNDS: Final = 10
WIDTH_PX, HEIGHT_PX = 640, 360


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Minimum of the rounds, including cropping.

    batch_1_ms, batch_32_ms: for one face. detector_ms: for a 640x360 frame, in batches of five.
    """

    batch_1_ms: float
    batch_32_ms: float
    detector_ms: float

    @property
    def share(self) -> float:
        """Time of a face at batch 32, divided by the detector's time for a frame."""
        return self.batch_32_ms / self.detector_ms


def scene(n_faces: int, n_frames: int) -> tuple[Frames, Faces]:
    """Noise with boxes of 60 to 120 px; the content does not affect the time."""
    rng = np.random.default_rng(0)
    side = rng.uniform(60, 120, (n_faces, 1))
    corner = rng.uniform(0, 1, (n_faces, 2)) * (np.array([WIDTH_PX, HEIGHT_PX]) - side)
    frames = Frames(
        images=rng.integers(0, 256, (n_frames, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8),
        offset_s=np.arange(n_frames, dtype=np.float64),
        source_width_px=WIDTH_PX,
        source_height_px=HEIGHT_PX,
    )
    eyes = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    faces = Faces(
        frame=np.sort(rng.integers(0, n_frames, n_faces)),
        boxes=np.concatenate((corner, corner + side), 1).astype(np.float32),
        scores=np.ones(n_faces, np.float32),
        landmarks=(corner[:, None] + eyes * side[:, None]).astype(np.float32),
    )
    return frames, faces


def elapsed_ms(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def measure(detector: Detector, classifiers: list[Classifier]) -> list[Speed]:
    """One `Speed` for each classifier; they alternate, so that other load affects all equally."""
    one, many = scene(1, 1), scene(32, 5)
    works: list[Callable[[], object]] = [lambda: detector.detect(many[0])]
    for classifier in classifiers:
        works.append(lambda c=classifier: c.classify(*one))  # type: ignore[misc]
        works.append(lambda c=classifier: c.classify(*many))  # type: ignore[misc]
    best = np.min([[elapsed_ms(work) for work in works] for _ in range(ROUNDS)], axis=0)
    return [
        Speed(
            batch_1_ms=float(best[1 + 2 * i]),
            batch_32_ms=float(best[2 + 2 * i]) / 32,
            detector_ms=float(best[0]) / len(many[0]),
        )
        for i, classifier in enumerate(classifiers)
    ]
