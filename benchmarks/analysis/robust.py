"""Benefit and cost of rotating faces upright, and of averaging with the mirror image.

python -m benchmarks.analysis.robust FOLDER [--n FACES] [--model NAME ...]

FOLDER: face crops as pictures, or the training data, of which the validation faces are used. Each
face is classified unchanged and disturbed; this measures self-consistency, without
labels. Landmarks are those of an upright face, rotated with the face, with the uncertainty of a
detector.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from emotion.classify import Classifier
from emotion.evaluate.labelled import SUFFIXES
from emotion.evaluate.score import answers
from emotion.weights import store as weights
from emotion.weights.records import EmotionModel
from training.measuring.disturb import DISTURBANCES, Disturbance, as_found, rolled
from training.measuring.measure import whole
from training.pictures import data

UNCERTAIN: Final = 0.02
"""Deviation of a landmark in sides of the face: some 4 degrees of the line of the eyes."""

TURNS: Final[tuple[float | None, ...]] = (None, 15.0, 0.0)
_ROLLS: Final = (0, 5, 10, 15, 20, 30, 45)
_SIZE_PX: Final = 48

SHOWN: Final = (
    "roll 10°",
    "mirrored",
    "shown 15 % larger",
    "shown 15 % smaller",
    "24 px",
    "blur, sigma 1 px",
    "JPEG, quality 30",
)

Gray = NDArray[np.uint8]


def faces_of(folder: Path, n: int) -> Gray:
    """Return uint8 (N, 48, 48), always the same ones."""
    if (folder / "ferplus.npz").exists():
        split = data.load(folder, data.VALIDATION)
        images = split.images[split.majority >= 0]
    else:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        images = np.stack([_gray(path) for path in paths])
    chosen = np.random.default_rng(0).permutation(len(images))[:n]
    return images[chosen]


def _gray(path: Path) -> Gray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BOX))


def probs_of(
    classifier: Classifier, images: NDArray[np.uint8], roll_deg: float
) -> NDArray[np.float32]:
    """Return (N, 8) of faces (N, S, S, 3) with this roll."""
    margin = classifier.model.crop.margin
    rng = np.random.default_rng(1)
    parts = []
    for first in range(0, len(images), 128):
        frames, faces = whole(images[first : first + 128], margin=margin, roll_deg=roll_deg)
        off = rng.normal(0, UNCERTAIN * frames.source_width_px, faces.landmarks.shape)
        turned = replace(faces, landmarks=faces.landmarks + off.astype(np.float32))
        parts.append(classifier.classify(frames, turned))
    return np.concatenate(parts)


def kept(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the share of faces with an unchanged prediction."""
    return float((answers(before) == answers(after)).mean())


def cost_ms(classifier: Classifier, images: NDArray[np.uint8]) -> float:
    """Return the time per face in a batch of 32, from picture to probabilities."""
    frames, faces = whole(images[:32], margin=classifier.model.crop.margin, roll_deg=30)
    spent = []
    for _ in range(25):
        began = time.perf_counter()
        classifier.classify(frames, faces)
        spent.append(time.perf_counter() - began)
    return 1000 * median(spent[5:]) / len(faces)


def _option(model: EmotionModel, turn: float | None, *, flip: bool) -> EmotionModel:
    return replace(model, crop=replace(model.crop, derotate_above_deg=turn), flip=flip)


def _turn_text(turn: float | None) -> str:
    return "never" if turn is None else "always" if turn == 0 else f"beyond {turn:g}°"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def turning(model: EmotionModel, images: Gray) -> str:
    """Return the benefit of rotating, a column for each roll, and its cost."""
    rows = []
    upright: NDArray[np.float32] | None = None
    for turn in TURNS:
        classifier = Classifier.of(_option(model, turn, flip=model.flip), device="cpu")
        if upright is None:
            upright = probs_of(classifier, as_found(images), 0)
        shares = []
        for roll in _ROLLS:
            both = []
            for sign in (-1, 1) if roll else (1,):
                shown = rolled(sign * roll).apply(images) if roll else as_found(images)
                both.append(kept(upright, probs_of(classifier, shown, sign * roll)))
            shares.append(f"{100 * np.mean(both):.1f}")
        cost = f"{cost_ms(classifier, as_found(images)):.2f}"
        rows.append([_turn_text(turn), *shares, cost])
    head = [f"{model.name}: turned upright", *(f"{roll}°" for roll in _ROLLS), "ms a face"]
    return _table(head, rows)


def mirroring(model: EmotionModel, images: Gray, chosen: Sequence[Disturbance]) -> str:
    """Return the benefit of averaging with the mirror image for each disturbance, and its cost."""
    rows = []
    for flip in (False, True):
        turn = model.crop.derotate_above_deg
        classifier = Classifier.of(_option(model, turn, flip=flip), device="cpu")
        before = probs_of(classifier, as_found(images), 0)
        shares = [
            f"{100 * kept(before, probs_of(classifier, d.apply(images), d.roll_deg)):.1f}"
            for d in chosen
        ]
        cost = f"{cost_ms(classifier, as_found(images)):.2f}"
        rows.append(["crop and mirror image" if flip else "the crop alone", *shares, cost])
    return _table([model.name, *(d.name for d in chosen), "ms a face"], rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--model", nargs="+", default=["showmood-expression-2", "mini-xception"])
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    images = faces_of(arguments.folder, arguments.n)
    chosen = [d for d in DISTURBANCES if d.name in SHOWN]
    print(f"Share of {len(images)} faces whose answer stays, in %.")
    for name in arguments.model:
        model = weights.emotion_model(name)
        weights.pull(model)
        print(f"\n{turning(model, images)}\n\n{mirroring(model, images, chosen)}", flush=True)


if __name__ == "__main__":
    main()
