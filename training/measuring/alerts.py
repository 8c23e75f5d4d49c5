"""False and true alert rates by threshold, for the table of `docs/automations.md`.

    python -m training.measuring.alerts --data DIR

Each press photograph counts as a face that holds its expression: smoothing does not change its
value, and an alert is raised if the value is at least the threshold. So the share of calm
faces above it is the number of false alerts per hundred minutes of calm faces, one face per minute;
the share of faces with the emotion above it is the recall. Fear, disgust and
contempt are rare in the press (or labelled at random), so FER+'s validation faces are used.
"""

import argparse
import logging
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.types import EMOTIONS
from emotion.weights import store as weights
from training.learning.rule import CALM
from training.measuring.disturb import as_found
from training.measuring.measure import classify, networks
from training.measuring.tables import percent, table
from training.pictures import data, press

log = logging.getLogger("training")

THRESHOLDS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OF_PRESS: Final = ("happiness", "surprise", "sadness", "anger")
OF_FERPLUS: Final = ("disgust", "fear", "contempt")
MAX_FALSE_SHARE: Final = 0.01
"""Maximum share of calm faces that raise an alert at the default threshold."""


def shares(
    probs: NDArray[np.float32], label: NDArray[np.int64], emotion: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of calm faces, and of faces that show the emotion, at each threshold or above."""
    at = np.array(THRESHOLDS)[:, None]
    calm, real = (
        (probs[label == which, emotion] >= at).mean(axis=1)
        if (label == which).any()
        else at[:, 0] * np.nan
        for which in (CALM, emotion)
    )
    return calm, real


def begin_with(calm: NDArray[np.float64]) -> float:
    """The lowest threshold that at most `MAX_FALSE_SHARE` of calm faces reach, or the highest."""
    quiet = np.flatnonzero(calm <= MAX_FALSE_SHARE)
    return THRESHOLDS[int(quiet[0]) if len(quiet) else -1]


def lines(
    names: tuple[str, ...], probs: NDArray[np.float32], label: NDArray[np.int64]
) -> list[list[str]]:
    """A table's row for each emotion: calm minutes in a hundred / real ones found, in percent."""
    rows = []
    for name in names:
        k = EMOTIONS.index(name)
        calm, real = shares(probs, label, k)
        chosen = begin_with(calm)
        row = [f"{name} ({int((label == k).sum())})"]
        for threshold, false, found in zip(THRESHOLDS, calm, real, strict=True):
            cell = f"{100 * false:.1f} / {percent(found)}"
            row.append(f"**{cell}**" if threshold == chosen else cell)
        rows.append(row)
    return rows


def text(at_press: list[list[str]], at_ferplus: list[list[str]]) -> str:
    """Both tables."""
    header = ["", *(f"{threshold:g}" for threshold in THRESHOLDS)]
    return "\n\n".join(
        (
            table(["press photographs", *header[1:]], at_press),
            table(["FER+, validation", *header[1:]], at_ferplus),
        )
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = weights.emotion_model(weights.DEFAULT_EMOTION_MODEL)
    detector, (classifier,) = networks([model])
    faces = press.load(arguments.data, model.crop, detector)
    validation = data.load(arguments.data, data.VALIDATION)
    log.info(
        "%s",
        text(
            lines(OF_PRESS, classify(classifier, as_found(faces.images)), faces.label),
            lines(
                (*OF_PRESS, *OF_FERPLUS),
                classify(classifier, as_found(validation.images)),
                validation.official,
            ),
        ),
    )


if __name__ == "__main__":
    main()
