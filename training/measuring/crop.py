"""Position of training pictures relative to our detector's box, to find the crop rule.

    python -m training.measuring.crop --data DIR

Runs the detector over training pictures, enlarged four times within a border.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

from emotion.detection.detect import Detector
from emotion.weights import store as weights
from training.measuring.measure import FACTOR, PADDING_PX, find
from training.pictures import data

log = logging.getLogger("training")


def spread(values: np.ndarray) -> str:
    """Median, and half the width of the central 68 %."""
    low, middle, high = np.quantile(values, (0.16, 0.5, 0.84))
    return f"{middle:+.3f} (deviation {(high - low) / 2:.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4000, help="pictures to look at")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    weights.pull(weights.DEFAULT_DETECTOR)
    detector = Detector(weights.load(weights.DEFAULT_DETECTOR), device="cpu")
    pictures = data.load(arguments.data, data.TRAIN)
    labelled = np.flatnonzero(pictures.majority >= 0)
    n = min(arguments.n, len(labelled))
    chosen = np.random.default_rng(0).choice(labelled, n, replace=False)
    found = [faces.boxes for _, _, faces in find(detector, pictures.images[chosen])]
    side = pictures.images.shape[1] * FACTOR
    box = (
        np.concatenate(found) - PADDING_PX
    ) / side  # in sides of the picture, relative to its corner
    longer = (box[:, 2:] - box[:, :2]).max(axis=1)
    offset = (0.5 - (box[:, :2] + box[:, 2:]) / 2) / longer[:, None]
    log.info("found %d of %d (%.1f %%)", len(box), n, 100 * len(box) / n)
    log.info("in sides of the box (its longer one), the picture's")
    log.info("  side    %s", spread(1 / longer))
    log.info("  centre  right %s, down %s", spread(offset[:, 0]), spread(offset[:, 1]))


if __name__ == "__main__":
    main()
