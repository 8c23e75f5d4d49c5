"""Evaluation of networks on press photographs, with the production code path, and by group.

The groups depend only on the pictures (pose, light), or are
created by changing them (small, low bit rate). Attributes of the people are neither known nor
estimated.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from emotion.align import crops
from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.evaluate.measure import largest_faces
from emotion.evaluate.score import Score, answers, score
from emotion.linking.smooth import Smoother
from emotion.networks.expression import SIZE_PX
from training.learning.rule import ANGER, press_figures
from training.measuring.disturb import as_found, pictures, small, tensor
from training.measuring.measure import classify
from training.pictures.augment import blur, jpeg, stream, uniform, warp
from training.pictures.press import beside, labelled

log = logging.getLogger("training")

TURNED: Final = (0.1, 0.25)
"""Limits of the yaw proxy (`beside`): about 10 and 25 degrees."""
LIGHT: Final = (80.0, 160.0)
"""Mean luma, 0 to 255, of dark and of bright faces."""
N_TRACKS: Final = 1000
N_FRAMES: Final = 10
FPS: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PressFigures:
    """One network on press photographs.

    found: cropped by our detector. whole: the labelled crops. groups: `rule.press_figures` of each
    group, its number of faces ("n"), and of angry faces ("angry"). single, smoothed:
    the same for synthetic tracks, by single frames and by the smoothed probabilities two seconds
    after the start of the track.
    """

    found: Score
    whole: Score
    in_short: dict[str, float]
    groups: dict[str, dict[str, float]]
    single: dict[str, float]
    smoothed: dict[str, float]


def press_measured(
    directory: Path, classifiers: list[Classifier], detector: Detector
) -> dict[str, PressFigures]:
    """Measure the networks. Raises DataError if the pictures are missing."""
    paths, label = labelled(directory)
    n = len(paths)
    images, turned = np.zeros((n, SIZE_PX, SIZE_PX), np.uint8), np.zeros(n)
    was_found = np.zeros(n, bool)
    found = [np.zeros((n, 8), np.float32) for _ in classifiers]
    whole = [np.zeros((n, 8), np.float32) for _ in classifiers]
    rule = classifiers[0].model.crop
    for at, frames, faces in largest_faces(paths, detector, margin=rule.margin):
        rows = at[faces.frame]
        seen = crops(frames, faces, rule, size_px=SIZE_PX, gray=True, device=torch.device("cpu"))
        images[rows] = seen[:, 0].round().clamp(0, 255).byte().numpy()
        turned[rows], was_found[rows] = beside(faces.landmarks), True
        for probs, classifier in zip(found, classifiers, strict=True):
            probs[rows] = classifier.classify(frames, faces)
    for probs, classifier in zip(whole, classifiers, strict=True):
        for at, frames, faces in largest_faces(paths, None, margin=classifier.model.crop.margin):
            probs[at] = classifier.classify(frames, faces)
    log.info("found %d of %d faces", was_found.sum(), n)
    of_found = np.where(was_found, label, -1)
    light = images.mean(axis=(1, 2))
    masks = {
        "looking ahead": turned < TURNED[0],
        "turned a little": (turned >= TURNED[0]) & (turned < TURNED[1]),
        "turned by more than about 25°": turned >= TURNED[1],
        "dark": light < LIGHT[0],
        "of middling light": (light >= LIGHT[0]) & (light < LIGHT[1]),
        "bright": light >= LIGHT[1],
    }
    chosen = np.flatnonzero(was_found)[:: max(1, int(was_found.sum()) // N_TRACKS)]
    made = {"24 px": small(images[chosen], size_px=24), "H.264, low rate": streamed(images[chosen])}
    tracks = made_tracks(images[chosen])
    measured = {}
    for classifier, by_box, by_crop in zip(classifiers, found, whole, strict=True):
        answer = answers(by_box)
        groups = {name: _figures(answer, of_found, mask) for name, mask in masks.items()}
        here, everything = of_found[chosen], np.ones(len(chosen), bool)
        for name, shown in {"as they are": as_found(images[chosen]), **made}.items():
            name = f"{name} (one face in {len(label) // len(chosen)})"
            groups[name] = _figures(answers(classify(classifier, shown)), here, everything)
        single, smoothed = track_figures(classifier, tracks, here)
        measured[classifier.model.name] = PressFigures(
            found=score(by_box, of_found),
            whole=score(by_crop, label),
            in_short=press_figures(answer, of_found),
            groups=groups,
            single=single,
            smoothed=smoothed,
        )
    return measured


def _figures(
    answer: NDArray[np.int64], label: NDArray[np.int64], mask: NDArray[np.bool_]
) -> dict[str, float]:
    n, angry = (label[mask] >= 0).sum(), (label[mask] == ANGER).sum()
    return press_figures(answer[mask], label[mask]) | {"n": float(n), "angry": float(angry)}


def streamed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, 48, 48, 3), as after compression at a low bit rate."""
    return pictures(stream(tensor(images), 15, (3, 3)))


def made_tracks(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Frames of faces that hold their expression while box, focus and compression vary.

    A list over frames of (N, 48, 48, 3). There are no labelled tracks; this measures the benefit of
    smoothing against all variation except the expression itself.
    """
    rng = torch.Generator().manual_seed(0)
    x, n = tensor(images), len(images)
    frames = []
    for _ in range(N_FRAMES):
        moved = warp(
            x,
            degrees=3 * torch.randn(n, generator=rng),
            scale=torch.exp(0.06 * torch.randn(n, generator=rng)),
            shift=0.06 * torch.randn(n, 2, generator=rng),
            mirror=torch.ones(n),
            padding="border",
        )
        soft = torch.rand(n, generator=rng).view(-1, 1, 1, 1) < 0.3
        moved = torch.where(soft, blur(moved, 1.0), moved)
        moved = moved * uniform(n, 0.8, 1.2, rng) + 0.02 * torch.randn(x.shape, generator=rng)
        frames.append(pictures(jpeg(moved.clamp(0, 1), 35)))
    return frames


def track_figures(
    classifier: Classifier, frames: list[NDArray[np.uint8]], label: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of tracks: by all single frames, and by the last smoothed one."""
    smoother = Smoother()
    of_frames = []
    smoothed = np.zeros((len(label), 8), np.float32)
    for i, shown in enumerate(frames):
        probs = classify(classifier, shown)
        smoothed = smoother.update(i * 1_000_000 // FPS, np.arange(len(label)), probs)
        of_frames.append(answers(probs))
    every = np.ones(len(label) * len(frames), bool)
    single = _figures(np.concatenate(of_frames), np.tile(label, len(frames)), every)
    return single, _figures(answers(smoothed), label, every[: len(label)])
