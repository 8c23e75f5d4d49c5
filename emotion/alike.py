"""Faces that stay as they are from one frame to the next share what is said of them.

Of each face the first and the last crop of a segment are looked at. Where the network says much the
same of both, and each crop between looks like one of the two, what it says of those between lies
between; otherwise the crop in the middle is looked at, and so on down to neighbours. Crops are
compared averaged down to a few pixels: a still face's noise and a box that is a little off differ
by less than a mouth that opens.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emotion.detection import boxes
from emotion.linking.assign import best_pairs
from emotion.types import Faces, Int64

CHANGED: Final = 12.0
"""Of 255, the mean over the small crop's pixels: a face that differs by more is looked at."""

MAX_APART: Final = 0.15
"""Two answers of which a probability differs by more are not taken for the same."""

_SMALL_PX: Final = 16
_GROUP: Final = 2
_SAME: Final = 0.3  # overlap of a face's boxes in frames next to each other


def people(faces: Faces) -> Int64:
    """Return a number (M,) for each face, the same for a face in frames next to each other."""
    person = np.arange(len(faces))
    frames, first = np.unique(faces.frame, return_index=True)
    bounds = [*first.tolist(), len(faces)]
    for k in range(1, len(frames)):
        if frames[k] != frames[k - 1] + 1:
            continue
        before, here = slice(*bounds[k - 1 : k + 1]), slice(*bounds[k : k + 2])
        overlap = boxes.iou_of(faces.boxes[before], faces.boxes[here])
        for i, j in best_pairs(overlap):
            if overlap[i, j] > _SAME:
                person[bounds[k] + j] = person[bounds[k - 1] + i]
    return person


def answers(
    crops: Tensor, person: Int64, ask: Callable[[Tensor], Tensor], *, n_probs: int
) -> Tensor:
    """Return what `ask` says of crops (M, C, S, S), or what lies between, as (M, outputs).

    person: (M,), each one's crops next to each other and in order of time. ask: gives (N, outputs)
    of (N, C, S, S), of which the first `n_probs` are compared.
    """
    small = functional.adaptive_avg_pool2d(crops, _SMALL_PX).flatten(1)
    edges = np.flatnonzero(np.diff(person)) + 1
    first, last = np.array([0, *edges]), np.array([*edges, len(person)]) - 1
    stretches = list(zip(first.tolist(), last.tolist(), strict=True))
    wanted = sorted({*first.tolist(), *last.tolist()})
    said: Tensor | None = None
    while wanted:
        # Filled up to whole groups: each number of faces costs milliseconds when it first comes.
        rows = wanted + wanted[-1:] * (-len(wanted) % _GROUP)
        found = ask(crops[rows])
        if said is None:
            said = found.new_zeros((len(crops), found.shape[1]))
        said[rows] = found
        wanted, rest = [], []
        for a, b in stretches:
            if b - a < 2:
                continue
            if _stays(small[a : b + 1], said[[a, b], :n_probs]):
                share = torch.arange(1, b - a, device=said.device)[:, None] / (b - a)
                said[a + 1 : b] = said[a] + share * (said[b] - said[a])
                continue
            middle = (a + b) // 2
            wanted.append(middle)
            rest += [(a, middle), (middle, b)]
        stretches = rest
    assert said is not None
    return said


def _stays(small: Tensor, ends: Tensor) -> bool:
    """Tell whether a face stays as it is from the first of its crops to the last.

    small: (N, P), all of them. ends: (2, C), what is said of the first and the last.
    """
    if float((ends[0] - ends[1]).abs().max()) > MAX_APART or ends[0].argmax() != ends[1].argmax():
        return False
    between = small[1:-1]
    apart = torch.stack([(between - end).abs().mean(dim=1) for end in (small[0], small[-1])])
    return float(apart.min(dim=0).values.max()) <= CHANGED
