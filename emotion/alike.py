"""Skips the classification of faces that do not change between frames.

Of each face the first and the last crop of a segment are classified. If both have similar
probabilities, and each face between looks like one of the two, the outputs between are
interpolated; otherwise the middle crop is classified, and so on recursively. Faces are compared
as thumbnails of a few pixels (`align.thumbnails`): noise of a still face and a slightly shifted
box differ by less than a mouth that opens. Only classified faces are cropped.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emotion.detection import boxes
from emotion.linking.assign import best_pairs
from emotion.types import Faces, Int64

MAX_DIFFERENCE: Final = 12.0
"""Mean absolute difference of two thumbnails, 0 to 255, up to which a face is unchanged."""

MAX_PROB_DIFFERENCE: Final = 0.15
"""Largest difference of a probability up to which two outputs count as similar."""

_GROUP: Final = 2
_MIN_IOU: Final = 0.3  # overlap of a face's boxes in consecutive frames


def face_ids(faces: Faces) -> Int64:
    """Return an id (M,) for each face, the same for a face in consecutive frames."""
    person = np.arange(len(faces))
    frames, first = np.unique(faces.frame, return_index=True)
    bounds = [*first.tolist(), len(faces)]
    for k in range(1, len(frames)):
        if frames[k] != frames[k - 1] + 1:
            continue
        before, here = slice(*bounds[k - 1 : k + 1]), slice(*bounds[k : k + 2])
        overlap = boxes.iou_of(faces.boxes[before], faces.boxes[here])
        for i, j in best_pairs(overlap):
            if overlap[i, j] > _MIN_IOU:
                person[bounds[k] + j] = person[bounds[k - 1] + i]
    return person


def interpolated_outputs(
    thumbnails: Tensor, person: Int64, classify: Callable[[Int64], Tensor], *, n_probs: int
) -> Tensor:
    """Return the network's outputs (M, outputs) for faces, some interpolated.

    thumbnails: (M, P), 0 to 255. person: (M,), from `face_ids`, each one's faces contiguous and in
    order of time. classify: maps rows (N,) to (N, outputs), of which the first `n_probs` are
    compared.
    """
    edges = np.flatnonzero(np.diff(person)) + 1
    first, last = np.array([0, *edges]), np.array([*edges, len(person)]) - 1
    stretches = list(zip(first.tolist(), last.tolist(), strict=True))
    wanted = sorted({*first.tolist(), *last.tolist()})
    outputs: Tensor | None = None
    while wanted:
        # Padded to whole groups: a new batch size costs milliseconds the first time.
        rows = wanted + wanted[-1:] * (-len(wanted) % _GROUP)
        found = classify(np.array(rows, dtype=np.int64))
        if outputs is None:
            outputs = found.new_zeros((len(person), found.shape[1]))
        outputs[rows] = found
        wanted, rest = [], []
        for a, b in stretches:
            if b - a < 2:
                continue
            if _is_unchanged(thumbnails[a : b + 1], outputs[[a, b], :n_probs]):
                share = torch.arange(1, b - a, device=outputs.device)[:, None] / (b - a)
                outputs[a + 1 : b] = outputs[a] + share * (outputs[b] - outputs[a])
                continue
            middle = (a + b) // 2
            wanted.append(middle)
            rest += [(a, middle), (middle, b)]
        stretches = rest
    assert outputs is not None
    return outputs


def _is_unchanged(thumbnails: Tensor, ends: Tensor) -> bool:
    """Return whether a face is the same from the first of its thumbnails (N, P) to the last.

    ends: (2, C), probabilities of the first and the last.
    """
    difference = float((ends[0] - ends[1]).abs().max())
    if difference > MAX_PROB_DIFFERENCE or ends[0].argmax() != ends[1].argmax():
        return False
    first, *_, last = thumbnails
    between = thumbnails[1:-1]
    apart = torch.stack([(between - end).abs().mean(dim=1) for end in (first, last)])
    return float(apart.min(dim=0).values.max()) <= MAX_DIFFERENCE
