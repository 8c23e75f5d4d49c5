"""Motion of the camera between two frames, as a shift and a scale of the whole picture.

A camera in a hand that zooms moves every face by more than the buffer of the assignment covers, but
it moves them all alike. So some pairs of a face before and a face now each propose a motion, and
the one that most faces agree with is refined by least squares over these faces. This is the
consensus of Fischler and Bolles, "Random Sample Consensus", CACM 1981, with a fixed list of
proposals in place of random ones, so that equal faces give equal motions.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.types import Float64, Int64

_Bool = NDArray[np.bool_]

_MIN_FACES: Final = 3  # two faces that change places look like a motion of the camera
_AGREE: Final = 0.75  # share of the faces, of the frame with more of them
_RIVAL: Final = 0.5  # share of the faces that makes another motion possible too
_PREDICTED: Final = 0.5  # share of the faces at their predicted places that leaves no question
_AT_PREDICTED: Final = 0.45  # of a face's sides, from the predicted place
_NEAR: Final = 0.3  # of a face's sides, from the place where a motion puts it
_ZOOM: Final = 0.3  # logarithm of the scale between two frames
_GROWN: Final = 0.25  # logarithm of the sizes' ratio, beside the scale
_FAR: Final = 2.0  # widths that a motion moves the face that proposes it
_MAX_FACES: Final = 20  # the largest faces of each frame
_PROPOSERS: Final = 4  # the largest faces before
_TINY: Final = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """scale: about the picture's corner. shift: (2,), in pixels, after scaling."""

    scale: float
    shift: Float64

    def of(self, boxes: Float64) -> Float64:
        """Return where the motion puts boxes (..., 4)."""
        moved: Float64 = boxes * self.scale + np.tile(self.shift, 2)
        return moved


def motion(before: Float64, predicted: Float64, boxes: Float64) -> Motion | None:
    """Return the motion of the camera that explains the boxes (M, 4), or None.

    before: (T, 4), of the last frames. predicted: (T, 4), the places of the same faces by their own
    velocities. Faces in an even row that one enters and another leaves fit a shift to the next
    place as well, so there is no motion if half of them are where they were predicted, or if
    another motion fits half of the faces.
    """
    n_fewer = min(len(before), len(boxes))
    if n_fewer < _MIN_FACES:
        return None
    stay = _apart(*_places(predicted), *_places(boxes))[0] <= _AT_PREDICTED
    if _n_agreeing(stay) >= max(2.0, _PREDICTED * n_fewer):
        return None
    at, size = _places(_largest(before))
    new_at, new_size = _places(_largest(boxes))
    most = max(len(at), len(new_at))
    scale, shift = _proposals(at, size, new_at, new_size)
    if not len(scale):
        return None
    near, nearest = _matched(scale, shift, at, size, new_at, new_size)
    scale, shift = _refined(_with_any(near), at, new_at[nearest])
    near, nearest = _matched(scale, shift, at, size, new_at, new_size)
    agreeing = np.where(np.abs(np.log(scale)) <= _ZOOM, _n_agreeing(near), 0)
    best = int(agreeing.argmax())
    if agreeing[best] < max(_MIN_FACES, _AGREE * most):
        return None
    matched = _with_any(near)
    differs = (matched & matched[best] & (nearest != nearest[best])).any(axis=1)
    if (differs & (agreeing >= max(_MIN_FACES, _RIVAL * most))).any():
        return None
    return Motion(scale=float(scale[best]), shift=shift[best])


def _largest(boxes: Float64) -> Float64:
    """Return the largest boxes, largest first; of equal ones the leftmost first."""
    width = boxes[:, 2] - boxes[:, 0]
    return boxes[np.lexsort((boxes[:, 1], boxes[:, 0], -width))[:_MAX_FACES]]


def _places(boxes: Float64) -> tuple[Float64, Float64]:
    """Return the centres (M, 2) of boxes (M, 4), and their sides (M, 2)."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return (low + high) / 2, np.maximum(high - low, _TINY)


def _apart(at: Float64, size: Float64, new_at: Float64, new_size: Float64) -> Float64:
    """Return (P, T, M), distances of places (P, T, 2) or (T, 2) from (M, 2), in sides of these.

    Infinite where the widths differ by more than a face grows.
    """
    at, size = at.reshape(-1, *at.shape[-2:]), size.reshape(-1, *size.shape[-2:])
    apart = (np.abs(at[:, :, None] - new_at) / new_size).max(axis=3)
    grown = np.abs(np.log(new_size[:, 0] / size[..., 0, None]))
    far: Float64 = np.where(grown <= _GROWN, apart, np.inf)
    return far


def _with_any(near: _Bool) -> _Bool:
    """Return which faces (P, T) are near any of the new ones, of (P, T, M)."""
    found: _Bool = np.logical_or.reduce(near, axis=2)
    return found


def _n_agreeing(near: _Bool) -> Int64:
    """Return the number of faces in pairs, of (..., T, M): each face counts once."""
    n: Int64 = np.minimum(near.any(axis=-1).sum(axis=-1), near.any(axis=-2).sum(axis=-1))
    return n


def _proposals(
    at: Float64, size: Float64, new_at: Float64, new_size: Float64
) -> tuple[Float64, Float64]:
    """Return scales (P,) and shifts (P, 2), of the pairs of a large face and one in its reach."""
    at, size = at[:_PROPOSERS], size[:_PROPOSERS]
    scales = new_size[:, 0] / size[:, None, 0]
    reach = np.abs(new_at - at[:, None]).max(axis=2) / size[:, None, 0]
    i, j = np.nonzero((np.abs(np.log(scales)) <= _ZOOM) & (reach <= _FAR))
    scale = scales[i, j]
    return scale, new_at[j] - scale[:, None] * at[i]


def _matched(
    scale: Float64,
    shift: Float64,
    at: Float64,
    size: Float64,
    new_at: Float64,
    new_size: Float64,
) -> tuple[_Bool, Int64]:
    """Return which faces each motion puts near which new ones (P, T, M), and the nearest (P, T)."""
    moved = scale[:, None, None] * at + shift[:, None]
    apart = _apart(moved, scale[:, None, None] * size, new_at, new_size)
    return apart <= _NEAR, apart.argmin(axis=2)


def _refined(matched: _Bool, at: Float64, to: Float64) -> tuple[Float64, Float64]:
    """Return the scales (P,) and shifts (P, 2) that best put places (T, 2) at (P, T, 2).

    matched: (P, T), the faces to fit. One face alone gives no scale: it stays 1.
    """
    n = np.maximum(matched.sum(axis=1), 1)[:, None]
    weight = matched[..., None]
    middle, to_middle = (weight * at).sum(axis=1) / n, (weight * to).sum(axis=1) / n
    away = weight * (at - middle[:, None])
    spread = (away**2).sum(axis=(1, 2))
    along = (away * (to - to_middle[:, None])).sum(axis=(1, 2))
    scale = np.divide(along, spread, out=np.ones_like(along), where=spread > _TINY)
    scale = np.maximum(scale, _TINY)
    return scale, to_middle - scale[:, None] * middle
