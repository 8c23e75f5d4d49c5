"""Accuracy and calibration of probabilities, on plain arrays.

Labels are int64 (N,), indices into `EMOTIONS`; negative ones are unlabelled and ignored.
Probabilities are (N, 8); NaN where a network lacks a class, which is then never predicted.
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
    where a class is never predicted. confusion: int64 (8, 8), rows are labels.
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
    """Expected calibration error: gap of confidence and accuracy, weighted by bin size."""
    confidence, right, n = reliability(probs, label)
    return float((np.abs(confidence - right) * n).sum() / max(1, n.sum()))


def reliability(
    probs: Probabilities, label: Labels
) -> tuple[NDArray[np.float64], NDArray[np.float64], Labels]:
    """Mean confidence, accuracy and size, (B,) each, of the bins of confidence that are not empty.

    No faces give no bins.
    """
    probs, label = probs[label >= 0], label[label >= 0]
    confidence = np.nanmax(probs, axis=1, initial=-np.inf).astype(np.float64)
    bin_of = np.clip((confidence * N_BINS).astype(np.int64), 0, N_BINS - 1)
    n = np.bincount(bin_of, minlength=N_BINS)
    sums = (np.bincount(bin_of, w, N_BINS) for w in (confidence, answers(probs) == label))
    sure, right = (total[n > 0] / n[n > 0] for total in sums)
    return sure, right, n[n > 0]


def score(probs: Probabilities, label: Labels) -> Score:
    """Compare probabilities with labels; without labels every share is NaN."""
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
