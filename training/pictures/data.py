"""The training pictures and their two sets of labels.

Pictures: FER2013 (Goodfellow et al. 2013, arXiv:1307.0414), 48 by 48 gray. Votes: FER+ (Barsoum
et al. 2016, arXiv:1608.01041), ten annotators per picture. FER2013's own label is the search term
of the picture, cleaned by hand.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.networks.expression import N_KEYWORD, N_VOTED, SIZE_PX

TRAIN, VALIDATION, TEST = 0, 1, 2

N_VOTES: Final = 10
"""The eight emotions, then unknown, then not-a-face."""

KEYWORD_TO_EMOTION: Final = (4, 5, 6, 1, 3, 2, 0)
"""FER2013's label (0 anger, 1 disgust, 2 fear, 3 happiness, 4 sadness, 5 surprise, 6 neutral)
to the index in `EMOTIONS`."""

UNKNOWN_KEYWORD: Final = 255


class DataError(Exception):
    """The data files are missing or invalid; one line with cause and remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Labelled faces.

        images: uint8 (N, 48, 48), gray.
    votes: float32 (N, 8), share of the votes for each emotion, without single votes; rows sum to
        1, or to 0 if no emotion has votes.
    majority: int64 (N,), majority of the ten votes, index into `EMOTIONS`; -1 if that is
        unknown or not a face.
    official: int64 (N,), label of FER+'s test protocol; -1 if the face is excluded.
    keyword: int64 (N,), FER2013's own label as index into `EMOTIONS`; -1 if unknown.
    """

    images: NDArray[np.uint8]
    votes: NDArray[np.float32]
    majority: NDArray[np.int64]
    official: NDArray[np.int64]
    keyword: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check shapes."""
        n = len(self.images)
        if self.images.shape != (n, SIZE_PX, SIZE_PX) or self.votes.shape != (n, N_VOTED):
            raise ValueError(f"images {self.images.shape}, votes {self.votes.shape}")
        for label in (self.majority, self.official, self.keyword):
            if label.shape != (n,):
                raise ValueError(f"labels {label.shape} of {n} faces")

    @property
    def agreed(self) -> NDArray[np.int64]:
        """(N,) the label if the majority and FER2013 agree, else -1."""
        same: NDArray[np.int64] = np.where(self.majority == self.keyword, self.majority, -1)
        return same

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.images)

    def select(self, chosen: NDArray[np.generic]) -> "Pictures":
        """Return the faces of a mask or an index array."""
        return Pictures(
            images=self.images[chosen],
            votes=self.votes[chosen],
            majority=self.majority[chosen],
            official=self.official[chosen],
            keyword=self.keyword[chosen],
        )


def load(directory: Path, split: int) -> Pictures:
    """Read one split of `ferplus.npz` and `fer2013-labels.npy`.

    Raises DataError if a file is missing or has other arrays.
    """
    try:
        with np.load(directory / "ferplus.npz") as archive:
            images, votes, splits = archive["images"], archive["votes"], archive["split"]
        keyword = np.load(directory / "fer2013-labels.npy")
    except (OSError, KeyError) as error:
        raise DataError(
            f"{directory}: ferplus.npz (images, votes, split) and fer2013-labels.npy are needed: "
            f"{error}"
        ) from error
    if votes.shape != (len(images), N_VOTES) or keyword.shape != (len(images),):
        raise DataError(f"{directory}: votes {votes.shape}, labels {keyword.shape}")
    to_emotion = np.full(256, -1, np.int64)
    to_emotion[:N_KEYWORD] = KEYWORD_TO_EMOTION
    most = votes.argmax(axis=1).astype(np.int64)
    everything = Pictures(
        images=images,
        votes=vote_shares(votes),
        majority=np.where(most < N_VOTED, most, -1),
        official=official_labels(votes),
        keyword=to_emotion[keyword],
    )
    return everything.select(splits == split)


def vote_shares(votes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 10) votes -> (N, 8) shares among the emotions, without votes of a single annotator.

    Dropping single votes is FER+'s own rule (section 4 of the paper); if no emotion has two
        votes the single ones count.
    """
    emotions = votes[:, :N_VOTED].astype(np.float32)
    shared = np.where(emotions > 1, emotions, 0)
    kept = np.where(shared.sum(axis=1, keepdims=True) > 0, shared, emotions)
    shares: NDArray[np.float32] = kept / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    return shares


def official_labels(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, 10) votes -> (N,) labels by FER+'s test protocol, -1: excluded.

    Single votes are dropped; the peak must be more than half of the rest, and an emotion
        (microsoft/FERPlus, `src/ferplus.py`, mode "majority").
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int64)
    peak = kept.argmax(axis=1)
    clear = 2 * kept.max(axis=1) > kept.sum(axis=1)
    labels: NDArray[np.int64] = np.where(clear & (peak < N_VOTED), peak, -1)
    return labels


def trainable(pictures: Pictures) -> NDArray[np.bool_]:
    """(N,) whether faces have a label for training, by votes or by FER2013."""
    has: NDArray[np.bool_] = (pictures.votes.sum(axis=1) > 0) | (pictures.keyword >= 0)
    return has


def to_learn(directory: Path, *, most: int | None = None) -> tuple[Pictures, Pictures]:
    """Return the training and the validation faces, the first `most` of each.

    Raises DataError as `load` does.
    """
    pictures, validation = load(directory, TRAIN), load(directory, VALIDATION)
    pictures = pictures.select(trainable(pictures))
    learnt, checked = (part.select(np.arange(len(part))[:most]) for part in (pictures, validation))
    return learnt, checked


def sampling_weights(
    pictures: Pictures, *, power: float, keyword_share: float
) -> NDArray[np.float64]:
    """(N,) sampling weights, mean 1: (1 / class share) ** power.

    A face's classes are its votes and, weighted by `keyword_share`, its FER2013 label.
    """
    has_keyword = pictures.keyword >= 0
    has_votes = pictures.votes.sum(axis=1) > 0
    one_hot = np.eye(N_VOTED)[np.maximum(pictures.keyword, 0)]
    share = np.where(has_keyword, np.where(has_votes, keyword_share, 1.0), 0.0)[:, None]
    classes = (1 - share) * pictures.votes + share * one_hot
    frequency = classes.sum(axis=0) / len(pictures)
    weights: NDArray[np.float64] = classes @ np.maximum(frequency, 1e-6) ** -power
    weights /= weights.mean()
    return weights


def draw_epoch(weights: NDArray[np.float64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """(N,) indices, each face drawn floor or ceil of its weight times (systematic resampling)."""
    rng = np.random.default_rng((seed, epoch))
    n = len(weights)
    order = rng.permutation(n)
    edges = np.cumsum(weights[order]) * (n / weights.sum())
    picks = np.searchsorted(edges, np.arange(n) + rng.random())
    return rng.permutation(order[np.minimum(picks, n - 1)])
