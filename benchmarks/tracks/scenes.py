"""Programmes with known ground truth: shots, with faces on known paths, in 1280x720.

A face has one identity as long as its track should continue: within a shot,
without absences of more than `track.MAX_AGE_S`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.linking.track import MAX_AGE_S

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
_HIDDEN: Final = 0.4  # overlap above which the detector's suppression removes the box behind
_INSIDE: Final = 0.75  # minimum share of a box inside the picture
_STEP_S: Final = 0.02

Place = tuple[float, float, float]
"""Centre x, y and width of a face, in pixels."""

Path = Callable[[float], Place]
"""Place of a face, by the time in seconds from the shot's start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """look: picture of the face. away: times when it is invisible. Earlier faces are in front."""

    path: Path
    look: int
    away: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """The picture of one camera without a cut.

    set: number of its colours. camera: visible part of the set. turned_px: pan to the right.
    """

    length_s: float
    faces: tuple[Face, ...]
    set: int = 0
    camera: int = 0
    turned_px: Callable[[float], float] = lambda t_s: 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A frame, `at_s` into its shot. identity: int64 (N,), of each visible face."""

    t_s: float
    at_s: float
    shot: int
    shown: Shot
    identity: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Programme:
    """A sequence of shots."""

    name: str
    shots: tuple[Shot, ...] = field(repr=False)

    def views(self, fps: float) -> list[View]:
        """Return the frames at a frame rate; the ground truth does not depend on it."""
        views: list[View] = []
        n_before, began_s = 0, 0.0
        for number, shot in enumerate(self.shots):
            times = np.arange(round(shot.length_s / _STEP_S)) * _STEP_S
            seen = np.array([_seen(shot, float(t)) for t in times])  # (T, F)
            identity = np.zeros(seen.shape, dtype=np.int64)
            for face in range(seen.shape[1]):
                identity[:, face] = n_before + _appearances(times, seen[:, face])
                n_before = int(identity[:, face].max(initial=n_before))
            every = np.arange(
                np.ceil(began_s * fps - 1e-9), np.ceil((began_s + shot.length_s) * fps - 1e-9)
            )
            for t_s in (every / fps).tolist():
                at = min(len(times) - 1, round((t_s - began_s) / _STEP_S))
                rows = np.flatnonzero(seen[at])
                views.append(
                    View(
                        t_s=t_s,
                        at_s=float(times[at]),
                        shot=number,
                        shown=shot,
                        identity=identity[at, rows],
                        boxes=boxes_of(shot, float(times[at]))[rows],
                    )
                )
            began_s += shot.length_s
        return views


def boxes_of(shot: Shot, t_s: float) -> NDArray[np.float64]:
    """Return the box (F, 4) of every face of the shot, visible or not; height is 1.25 widths."""
    x, y, width = np.array([face.path(t_s) for face in shot.faces]).reshape(-1, 3).T
    half = np.stack((width, 1.25 * width)) / 2
    return np.stack((x - half[0], y - half[1], x + half[0], y + half[1]), axis=1)


def _seen(shot: Shot, t_s: float) -> list[bool]:
    boxes = boxes_of(shot, t_s)
    inside = np.clip(boxes, 0, (WIDTH_PX, HEIGHT_PX) * 2)
    seen: list[bool] = []
    for i, face in enumerate(shot.faces):
        away = any(begin <= t_s < end for begin, end in face.away)
        hidden = any(
            seen[j] and _shared(boxes[j], boxes[i]) > _HIDDEN * _area(boxes[i]) for j in range(i)
        )
        seen.append(not away and not hidden and bool(_area(inside[i]) >= _INSIDE * _area(boxes[i])))
    return seen


def _area(box: NDArray[np.float64]) -> float:
    return float(np.prod(np.clip(box[2:] - box[:2], 0, None)))


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return _area(np.concatenate((np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]))))


def _appearances(times: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (T,) numbers from 1, with a new one after each long absence."""
    at = times[seen]
    begins = at[1:][np.diff(at) > MAX_AGE_S + _STEP_S]
    return 1 + np.searchsorted(begins, times, side="right").astype(np.int64)
