"""The rule that combines the two heads, and the search that chooses it.

The search uses faces that were not used for training: FER+'s validation faces, by its authors'
protocol and by FER2013's labels, and press photographs (`press`), which have the highest weight.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from emotion.evaluate.score import answers, calibration_error
from emotion.networks.expression import N_KEYWORD, N_VOTED
from emotion.types import EMOTIONS
from training.pictures import data
from training.pictures.press import Press

CALM: Final = EMOTIONS.index("neutral")
ANGER: Final = EMOTIONS.index("anger")
NEGATIVE: Final = tuple(
    EMOTIONS.index(name) for name in ("sadness", "anger", "disgust", "fear", "contempt")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A figure that the shipped rule should reach.

    wanted: 0 to 1. weight: cost of a shortfall in the search. at_most: lower is
    better. margin: by how much validation should be better, so that other faces reach it too.
    """

    wanted: float
    weight: float
    at_most: bool = False
    margin: float = 0.01

    def short(self, value: float) -> float:
        """Shortfall, including the margin."""
        missing = value - self.wanted if self.at_most else self.wanted - value
        return max(0.0, missing + self.margin)

    def met(self, value: float) -> bool:
        """Whether a figure reaches the goal itself."""
        return value <= self.wanted if self.at_most else value >= self.wanted


GOALS: Final = {
    "official_accuracy": Goal(wanted=0.88, weight=1.0),
    "official_recall": Goal(wanted=0.75, weight=0.5),  # depends on a few dozen rare faces
    "press_accuracy": Goal(wanted=0.87, weight=1.0),
    "calm_negative": Goal(wanted=0.04, weight=2.0, at_most=True, margin=0.0),
    "anger_found": Goal(wanted=0.70, weight=1.0),
    "keyword_accuracy": Goal(wanted=0.65, weight=0.75),
    "clean_accuracy": Goal(wanted=0.93, weight=0.75),
}

SHARES: Final = np.linspace(0, 1, 21)
PRIORS: Final = np.linspace(-0.7, 1, 18)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Parameters of the combination of the two heads.

    share: weight of the votes' head. voted_prior, keyword_prior: exponents of logit adjustment
    (arXiv:2007.07314): 1 removes the class shares of the training data from the output,
    0 keeps them, below 0 amplifies them.
    power: exponent of the mixed probabilities, which changes confidence but not the ranking.
    """

    share: float = 0.7
    voted_prior: float = 0.0
    keyword_prior: float = 0.0
    power: float = 1.0


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    normal: NDArray[np.float64] = e / e.sum(axis=-1, keepdims=True)
    return normal


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Both heads' mean logits for faces, and the priors in them."""

    voted: NDArray[np.float64]
    keyword: NDArray[np.float64]
    voted_prior: NDArray[np.float64]
    keyword_prior: NDArray[np.float64]

    def voted_probs(self, prior: float) -> NDArray[np.float64]:
        """(N, 8)."""
        return softmax(self.voted - prior * np.log(self.voted_prior))

    def keyword_probs(self, prior: float) -> NDArray[np.float64]:
        """(N, 8); contempt 0."""
        probs = softmax(self.keyword - prior * np.log(self.keyword_prior))
        return np.pad(probs, ((0, 0), (0, N_VOTED - N_KEYWORD)))

    def probs(self, c: Calibration) -> NDArray[np.float64]:
        """(N, 8) probabilities of the shipped network with this rule."""
        mixed = c.share * self.voted_probs(c.voted_prior)
        mixed += (1 - c.share) * self.keyword_probs(c.keyword_prior)
        return sharpened(mixed, c.power)


def sharpened(probs: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """(N, 8) to a power, rows normalised to 1."""
    sharp = probs**power
    normal: NDArray[np.float64] = sharp / sharp.sum(axis=1, keepdims=True)
    return normal


def _accuracy_and_recall(
    answer: NDArray[np.int64], label: NDArray[np.int64]
) -> tuple[float, float]:
    """Accuracy and mean recall over the classes that occur, of labelled faces."""
    known = label >= 0
    if not known.any():
        return float("nan"), float("nan")
    right = (answer == label)[known]
    n = np.bincount(label[known], minlength=N_VOTED)
    hits = np.bincount(label[known], right, minlength=N_VOTED)
    return float(right.mean()), float((hits[n > 0] / n[n > 0]).mean())


def figures(answer: NDArray[np.int64], pictures: data.Pictures) -> dict[str, float]:
    """Accuracy and mean recall by both labellings, and where both agree ("clean")."""
    found = {}
    for name, label in (
        ("official", pictures.official),
        ("votes", pictures.majority),
        ("keyword", pictures.keyword),
        ("clean", pictures.agreed),
    ):
        found[f"{name}_accuracy"], found[f"{name}_recall"] = _accuracy_and_recall(answer, label)
    return found


def press_figures(answer: NDArray[np.int64], label: NDArray[np.int64]) -> dict[str, float]:
    """Figures on press photographs; negative labels are ignored.

    calm_negative, calm_angry: share of calm faces classified as one of `NEGATIVE`, or as angry.
    anger_found: recall of anger.
    """
    accuracy, recall = _accuracy_and_recall(answer, label)
    calm, angry = answer[label == CALM], answer[label == ANGER]

    def share(of: NDArray[np.bool_]) -> float:
        return float(of.mean()) if len(of) else float("nan")

    return {
        "press_accuracy": accuracy,
        "press_recall": recall,
        "calm_negative": share(np.isin(calm, NEGATIVE)),
        "calm_angry": share(calm == ANGER),
        "anger_found": share(angry == ANGER),
    }


def worth(found: dict[str, float]) -> float:
    """Score of a rule: minus the weighted shortfalls, plus a little for total accuracy."""
    short = sum(goal.weight * goal.short(found[name]) for name, goal in GOALS.items())
    beyond = found["official_accuracy"] + found["press_accuracy"] + found["keyword_accuracy"]
    return 0.05 * beyond - short


def calibrate(
    seen: Evidence,
    pictures: data.Pictures,
    at_press: Evidence,
    press: Press,
    *,
    shares: NDArray[np.float64] = SHARES,
    priors: NDArray[np.float64] = PRIORS,
) -> Calibration:
    """Choose share and priors by the goals, then the power by the calibration error.

    Rare classes have few faces here, so a single best point may be chance: the score of a point is
    the mean over its neighbours in the grid.
    """
    heads = [
        (
            [one.voted_probs(prior) for prior in priors],
            [one.keyword_probs(prior) for prior in priors],
        )
        for one in (seen, at_press)
    ]
    worths = np.empty((len(shares), len(priors), len(priors)))
    for i, j, k in np.ndindex(worths.shape):
        here, there = (
            (shares[i] * voted[j] + (1 - shares[i]) * keyword[k]).argmax(axis=1)
            for voted, keyword in heads
        )
        worths[i, j, k] = worth(figures(here, pictures) | press_figures(there, press.label))
    smooth = uniform_filter(worths, size=3, mode="nearest")
    i, j, k = np.unravel_index(int(smooth.argmax()), smooth.shape)
    best = Calibration(
        share=float(shares[i]), voted_prior=float(priors[j]), keyword_prior=float(priors[k])
    )
    judged = [(seen.probs(best), pictures.official), (at_press.probs(best), press.label)]
    return replace(best, power=sharpness(judged))


def sharpness(judged: list[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> float:
    """The exponent that minimises the largest calibration error over the sets of faces.

    judged: probabilities and labels of each set of faces.
    """
    powers = np.arange(0.5, 3.01, 0.05)
    errors = [
        max(calibration_error(sharpened(probs, power), label) for probs, label in judged)
        for power in powers
    ]
    return float(powers[int(np.argmin(errors))])


def validated(
    c: Calibration, seen: Evidence, pictures: data.Pictures, at_press: Evidence, press: Press
) -> dict[str, float]:
    """All figures of a rule on the faces used to choose it."""
    here, there = seen.probs(c), at_press.probs(c)
    found = figures(answers(here), pictures) | press_figures(answers(there), press.label)
    found["calibration_error"] = calibration_error(here, pictures.official)
    found["press_calibration_error"] = calibration_error(there, press.label)
    return found
