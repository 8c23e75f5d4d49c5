"""Identity and CLEAR MOT metrics, on plain arrays.

IDF1: Ristani et al. 2016, "Performance Measures and a Data Set for Multi-Target, Multi-Camera
Tracking" (arXiv:1609.01775). MOTA, switches: Bernardin and Stiefelhagen 2008, "Evaluating Multiple
Object Tracking Performance: The CLEAR MOT Metrics". Of the packages that compute them, motmetrics
1.4.0 (2023) calls what NumPy 2 removed and brings pandas, and trackeval 1.3.0 brings OpenCV; on
the programmes here motmetrics, beside NumPy 1, gives the same figures to the last digit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MIN_OVERLAP: Final = 0.5

Ids = NDArray[np.int64]
Overlap = NDArray[np.float64]
Frame = tuple[Ids, Ids, Overlap]
"""True ids (T,), predicted ids (P,), and overlap of each pair (T, P), 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Counts over all frames; can be added."""

    n_truth: int = 0
    n_said: int = 0
    n_right: int = 0
    n_missed: int = 0
    n_false: int = 0
    switches: int = 0
    fragmentations: int = 0

    def __add__(self, other: "Scores") -> "Scores":
        """Return the sums."""
        return Scores(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        )

    @property
    def idf1(self) -> float:
        """Return the share of faces with the one track assigned to them, 0 to 1."""
        return 2 * self.n_right / max(1, self.n_truth + self.n_said)

    @property
    def mota(self) -> float:
        """Return 1 minus misses, false positives and switches per true face."""
        return 1 - (self.n_missed + self.n_false + self.switches) / max(1, self.n_truth)


def score(frames: Iterable[Frame]) -> Scores:
    """Compare tracks with the ground truth; zeros without frames."""
    together: Counter[tuple[int, int]] = Counter()
    track_of: dict[int, int] = {}
    seen: defaultdict[int, list[bool]] = defaultdict(list)
    n_truth = n_said = n_false = switches = 0
    for truth, said, overlap in frames:
        close = overlap >= MIN_OVERLAP
        together.update((int(truth[i]), int(said[j])) for i, j in np.argwhere(close))
        pairs = _matched(truth, said, np.where(close, overlap, 0), track_of)
        for i, j in pairs.items():
            face, track = int(truth[i]), int(said[j])
            switches += track_of.get(face, track) != track
            track_of[face] = track
        for i, face in enumerate(truth.tolist()):
            seen[face].append(i in pairs)
        n_truth, n_said = n_truth + len(truth), n_said + len(said)
        n_false += len(said) - len(pairs)
    return Scores(
        n_truth=n_truth,
        n_said=n_said,
        n_right=_best_pairs(together),
        n_missed=sum(row.count(False) for row in seen.values()),
        n_false=n_false,
        switches=switches,
        fragmentations=sum(_holes(row) for row in seen.values()),
    )


def _matched(truth: Ids, said: Ids, overlap: Overlap, track_of: dict[int, int]) -> dict[int, int]:
    """Match predictions with the truth: continuing pairs first, then the best."""
    pairs: dict[int, int] = {}
    free = overlap.copy()
    row_of = {int(track): j for j, track in enumerate(said)}
    for i, face in enumerate(truth.tolist()):
        j = row_of.get(track_of.get(face, -1))
        if j is not None and free[i, j] > 0:
            pairs[i] = j
            free[i, :] = 0
            free[:, j] = 0
    for i, j in zip(*linear_sum_assignment(free, maximize=True), strict=True):
        if free[i, j] > 0:
            pairs[int(i)] = int(j)
    return pairs


def _best_pairs(together: Counter[tuple[int, int]]) -> int:
    """Return the number of faces with their track, if each face has at most one track."""
    if not together:
        return 0
    faces, tracks = (sorted({pair[k] for pair in together}) for k in (0, 1))
    counts = np.zeros((len(faces), len(tracks)))
    for (face, track), n in together.items():
        counts[faces.index(face), tracks.index(track)] = n
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())


def _holes(seen: list[bool]) -> int:
    """Return the number of fragmentations."""
    found = "".join("1" if one else "0" for one in seen).strip("0")
    return sum(bool(hole) for hole in found.split("1"))
