"""Faces that did not change from one frame to the next share one classification.

As much as a still face's own noise and the resampling of its crop may differ is called no change,
measured on crops that are averaged down to a few pixels.
"""

from typing import Final

import numpy as np
from torch import Tensor
from torch.nn import functional

from emotion.detection import boxes
from emotion.linking.assign import best_pairs
from emotion.types import Faces, Int64

CHANGED: Final = 6.0
"""Of 255, the mean over the small crop's pixels: a face that differs by more is looked at again."""

_SMALL_PX: Final = 16
_GROUP: Final = 4
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


def looked_at(crops: Tensor, person: Int64) -> tuple[list[int], list[int]]:
    """Return which crops (M, C, S, S) are to be looked at, and for each crop which of these it is.

    person: (M,), each one's crops in order of time. A crop is compared with the one that was looked
    at last, not with its neighbour: what changes slowly is seen as well. The last may be named
    several times.
    """
    small = functional.adaptive_avg_pool2d(crops, _SMALL_PX).flatten(1)
    new: list[int] = []
    which: list[int] = []
    last: dict[int, int] = {}
    for i, number in enumerate(person.tolist()):
        k = last.get(number)
        if k is None or float((small[i] - small[new[k]]).abs().mean()) > CHANGED:
            k = last[number] = len(new)
            new.append(i)
        which.append(k)
    # Filled up to whole groups: each number of faces costs milliseconds when it first comes.
    return new + new[-1:] * (-len(new) % _GROUP), which
