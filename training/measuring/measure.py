"""All figures of the report, with the production code path."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.evaluate.measure import LANDMARKS
from emotion.evaluate.score import Score, answers, score
from emotion.types import EMOTIONS, Faces, Frames
from emotion.weights import store as weights
from emotion.weights.store import EmotionModel
from training.measuring.disturb import DISTURBANCES, as_found
from training.measuring.speed import Speed, measure
from training.pictures import data
from training.pictures.duplicates import seen_before

log = logging.getLogger("training")

FACTOR: Final = 4
PADDING_PX: Final = 32
"""Size and border of test pictures for the detector."""


def whole(
    images: NDArray[np.uint8], *, margin: float, roll_deg: float = 0.0
) -> tuple[Frames, Faces]:
    """Frames of uint8 (N, S, S, 3) faces, and boxes for which the crop is the whole picture.

    margin: of the network's crop rule. roll_deg: clockwise rotation of the landmarks.
    """
    n, size = images.shape[:2]
    half = size / 2 / (1 + 2 * margin)
    box = np.array([size / 2 - half] * 2 + [size / 2 + half] * 2, np.float32)
    angle = np.deg2rad(roll_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    landmarks = ((LANDMARKS - 0.5) @ turn + 0.5) * size
    frames = Frames(
        images=images,
        offset_s=np.arange(n, dtype=np.float64),
        source_width_px=size,
        source_height_px=size,
    )
    faces = Faces(
        frame=np.arange(n, dtype=np.int64),
        boxes=np.tile(box, (n, 1)),
        scores=np.ones(n, np.float32),
        landmarks=np.tile(landmarks, (n, 1, 1)).astype(np.float32),
    )
    return frames, faces


def classify(
    classifier: Classifier, images: NDArray[np.uint8], *, roll_deg: float = 0.0
) -> NDArray[np.float32]:
    """Probabilities (N, 8) of uint8 (N, S, S, 3) faces."""
    margin = classifier.model.crop.margin
    parts = [
        classifier.classify(*whole(images[i : i + 128], margin=margin, roll_deg=roll_deg))
        for i in range(0, len(images), 128)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """All figures of one network.

    official: FER+ as its authors test it; votes: the majority of all votes, including harder faces.
    disturbed: accuracy on the official faces, by disturbance.
    parameters: number of its parameters.
    detected: on the faces found by our detector in the enlarged, padded pictures, with its crop.
    unseen: without near-duplicates of training pictures.
    """

    official: Score
    votes: Score
    keyword: Score
    clean: Score
    unseen_official: Score
    unseen_keyword: Score
    disturbed: dict[str, float]
    detected: Score
    speed: Speed
    parameters: int


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 48, 48) -> (N, P, P, 3): enlarged, within a border that repeats the edge."""
    x = torch.from_numpy(images)[:, None].float()
    x = torch.nn.functional.interpolate(x, scale_factor=FACTOR, mode="bicubic")
    x = torch.nn.functional.pad(x.clamp(0, 255), (PADDING_PX,) * 4, mode="replicate")
    gray: NDArray[np.uint8] = x[:, 0].round().byte().numpy()
    return as_found(gray)


def find(detector: Detector, images: NDArray[np.uint8]) -> Iterator[tuple[int, Frames, Faces]]:
    """Yield batches of the pictures: first index, frames, and the best face of each frame."""
    for start in range(0, len(images), 16):
        pictures = enlarged(images[start : start + 16])
        n, height, width, _ = pictures.shape
        frames = Frames(
            images=pictures,
            offset_s=np.arange(n, dtype=np.float64),
            source_width_px=width,
            source_height_px=height,
        )
        faces = detector.detect(frames)
        _, best = np.unique(faces.frame, return_index=True)
        yield (
            start,
            frames,
            Faces(
                frame=faces.frame[best],
                boxes=faces.boxes[best],
                scores=faces.scores[best],
                landmarks=faces.landmarks[best],
            ),
        )


def detected_probs(
    detector: Detector, classifiers: list[Classifier], images: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], list[NDArray[np.float32]]]:
    """(N,) whether a face was found, and each network's probabilities (N, 8) for its crop."""
    found = np.zeros(len(images), bool)
    probs = [np.full((len(images), len(EMOTIONS)), np.nan, np.float32) for _ in classifiers]
    for start, frames, faces in find(detector, images):
        at = start + faces.frame
        found[at] = True
        for out, classifier in zip(probs, classifiers, strict=True):
            out[at] = classifier.classify(frames, faces)
    return found, probs


def networks(models: list[EmotionModel]) -> tuple[Detector, list[Classifier]]:
    """Return the default detector and each network, from the shipped files."""
    for model in (weights.DEFAULT_DETECTOR, *models):
        weights.pull(model)
    detector = Detector(weights.load(weights.DEFAULT_DETECTOR), device="cpu")
    return detector, [Classifier.of(model, device="cpu") for model in models]


def figures(
    directory: Path, detector: Detector, classifiers: list[Classifier]
) -> tuple[dict[str, Figures], dict[str, int]]:
    """Measure the networks on the test pictures; also return the number of pictures."""
    test = data.load(directory, data.TEST)
    others = [data.load(directory, split) for split in (data.TRAIN, data.VALIDATION)]
    twice = seen_before(test.images, np.concatenate([part.images for part in others]))
    log.info("detecting in %d pictures", len(test))
    found, by_detection = detected_probs(detector, classifiers, test.images)
    speeds = measure(detector, classifiers)
    measured = {}
    for classifier, crop_probs, speed in zip(classifiers, by_detection, speeds, strict=True):
        log.info("measuring %s", classifier.model.name)
        probs = classify(classifier, as_found(test.images))
        disturbed = {}
        for disturbance in DISTURBANCES:
            pictures = disturbance.apply(test.images)
            answer = answers(classify(classifier, pictures, roll_deg=disturbance.roll_deg))
            right = (answer == test.official)[test.official >= 0]
            disturbed[disturbance.name] = float(right.mean())
        measured[classifier.model.name] = Figures(
            official=score(probs, test.official),
            votes=score(probs, test.majority),
            keyword=score(probs, test.keyword),
            clean=score(probs, test.agreed),
            unseen_official=score(probs, np.where(twice, -1, test.official)),
            unseen_keyword=score(probs, np.where(twice, -1, test.keyword)),
            disturbed=disturbed,
            detected=score(crop_probs, np.where(found, test.official, -1)),
            speed=speed,
            parameters=sum(v.numel() for v in weights.load(classifier.model).values()),
        )
    counts = {
        "test": len(test),
        "test_near_duplicates": int(twice.sum()),
        "found_by_detector": int(found.sum()),
    }
    return measured, counts
