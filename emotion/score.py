"""How right probabilities are, on plain arrays.

Labels are int64 (N,), indices into `EMOTIONS`; below 0 means not labelled, left out everywhere.
Probabilities are (N, 8); NaN where a network lacks a class, which then is never its answer.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.types import K

N_BINS: Final = 15
"""Equal bins of confidence, as in Guo et al. 2017 (arXiv:1706.04599)."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One network against one labelling.

    n: labelled faces. accuracy, mean_recall and macro_f1 (over the classes that occur),
    calibration_error: 0 to 1. recall: (8,), NaN where a class does not occur. precision: (8,), NaN
    where a class is never answered. confusion: int64 (8, 8), rows are labels.
    """

    n: int
    accuracy: float
    mean_recall: float
    macro_f1: float
    calibration_error: float
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    confusion: NDArray[np.int64]


def answers(probs: Probabilities) -> Labels:
    """(N,) the class of the highest probability."""
    best: Labels = np.where(np.isnan(probs), -1, probs).argmax(axis=1).astype(np.int64)
    return best


def calibration_error(probs: Probabilities, label: Labels) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighed by their size."""
    probs, label = probs[label >= 0], label[label >= 0]
    confidence, right = np.nanmax(probs, axis=1), answers(probs) == label
    bin_of = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    gap = np.bincount(bin_of, confidence - right, minlength=N_BINS)
    return float(np.abs(gap).sum() / max(1, len(label)))


def score(probs: Probabilities, label: Labels) -> Score:
    """Compare with one labelling; where nothing is labelled every share is NaN."""
    labelled = label >= 0
    n = int(labelled.sum())
    confusion = np.zeros((K, K), np.int64)
    np.add.at(confusion, (label[labelled], answers(probs[labelled])), 1)
    right, per_class, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = per_class > 0
    recall = np.where(occurs, right / np.maximum(per_class, 1), np.nan)
    f1 = 2 * right / np.maximum(per_class + answered, 1)
    return Score(
        n=n,
        accuracy=float(right.sum() / n) if n else float("nan"),
        mean_recall=float(recall[occurs].mean()) if n else float("nan"),
        macro_f1=float(f1[occurs].mean()) if n else float("nan"),
        calibration_error=calibration_error(probs, label) if n else float("nan"),
        recall=recall,
        precision=np.where(answered > 0, right / np.maximum(answered, 1), np.nan),
        confusion=confusion,
    )
