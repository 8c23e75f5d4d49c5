"""Programmes with known truth: faces on known paths, in the picture of 1280x720.

A face is the same one as long as a track is meant to go on: from a shot's beginning to its end,
without absences of more than `track.MAX_AGE_S`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emotion.track import MAX_AGE_S

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
_HIDDEN: Final = 0.4  # of a box behind another one: the detector's suppression leaves one of them
_INSIDE: Final = 0.75  # of a box that is in the picture, or the face is out of it
_STEP_S: Final = 0.02

Place = tuple[float, float, float]
"""Centre x, y and width of a face, in pixels."""

Path = Callable[[float], Place]
"""Where a face is, at a time in seconds from the shot's beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """look: which picture of a face. away: when it cannot be seen. Earlier ones are in front."""

    path: Path
    look: int
    away: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """What one camera shows without a cut.

    set: gives its colours. camera: which part of the set is seen. turned_px: to the right.
    """

    length_s: float
    faces: tuple[Face, ...]
    set: int = 0
    camera: int = 0
    turned_px: Callable[[float], float] = lambda t_s: 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A frame, `at_s` into its shot. identity: int64 (N,), of each face that can be seen."""

    t_s: float
    at_s: float
    shot: int
    shown: Shot
    identity: NDArray[np.int64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Programme:
    """Shots one after the other."""

    name: str
    shots: tuple[Shot, ...] = field(repr=False)

    def views(self, fps: float) -> list[View]:
        """Return the frames at that rate. The truth is the same at every rate."""
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
    """Return the box (F, 4) of every face of the shot, seen or not; 1.25 times as high as wide."""
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
    """Return (T,), counted from 1: a new one after each absence that is too long."""
    at = times[seen]
    begins = at[1:][np.diff(at) > MAX_AGE_S + _STEP_S]
    return 1 + np.searchsorted(begins, times, side="right").astype(np.int64)


def going(first_s: float, last_s: float, *places: Place, gently: bool = False) -> Path:
    """From the first place to the second between these times; at the first and last, it stays."""
    begin, end = places

    def path(t_s: float) -> Place:
        share = min(1.0, max(0.0, (t_s - first_s) / (last_s - first_s)))
        step = end[2] / 20 * sin(3 * pi * t_s) if 0 < share < 1 and not gently else 0.0
        share = share * share * (3 - 2 * share) if gently else share
        x, y, width = (a + share * (b - a) for a, b in zip(begin, end, strict=True))
        return x, y + step, width

    return path


def _sits(place: Place, look: int, *away: tuple[float, float]) -> Face:
    """Return a person who sits and talks: the head sways by a sixth of its width."""
    x, y, width = place

    def path(t_s: float) -> Place:
        return (
            x + width / 6 * sin(1.7 * t_s + 1.3 * look),
            y + width / 12 * sin(2.3 * t_s + 2.6 * look),
            width * (1 + 0.04 * sin(0.9 * t_s + 1.3 * look)),
        )

    return Face(path=path, look=look, away=away)


def _walks(look: int, first_s: float, last_s: float, *places: Place) -> Face:
    return Face(path=going(first_s, last_s, *places), look=look)


def _there_and_back(there: Path, back: Path, turns_s: float) -> Path:
    return lambda t_s: there(t_s) if t_s < turns_s else back(t_s)


def _zoomed(look: int, far: Place, near: Place) -> Face:
    there, back = going(2, 4, far, near, gently=True), going(6.5, 8, near, far, gently=True)
    return Face(path=_there_and_back(there, back, 6), look=look)


def _turned(t_s: float) -> float:
    """A camera that turns by 700 pixels in 2 s, waits 2 s, and turns back."""
    turns = [going(at, at + 2, (0, 0, 0), (700, 0, 0), gently=True)(t_s)[0] for at in (2, 6)]
    return turns[0] - turns[1]


def _panned(place: Place, look: int) -> Face:
    sits = _sits(place, look).path

    def path(t_s: float) -> Place:
        x, y, width = sits(t_s)
        return x - _turned(t_s), y, width

    return Face(path=path, look=look)


def _one(name: str, length_s: float, *faces: Face) -> Programme:
    return Programme(name=name, shots=(Shot(length_s=length_s, faces=faces),))


_CUTS: Final[tuple[tuple[float, tuple[Place, ...]], ...]] = (
    (2.6, ((400, 320, 200), (850, 320, 190))),
    (1.9, ((420, 320, 220),)),
    (3.1, ((390, 320, 200), (860, 320, 200))),
    (2.3, ((640, 320, 300),)),
    (1.1, ((600, 320, 280),)),
    (2.7, ((250, 320, 150), (620, 320, 160), (980, 320, 150))),
)


def _cut(name: str, *, one_set: bool) -> Programme:
    shots = (
        Shot(
            length_s=length_s,
            set=0 if one_set else number,
            camera=number,
            faces=tuple(_sits(at, (number + i) % 4) for i, at in enumerate(places)),
        )
        for number, (length_s, places) in enumerate(_CUTS)
    )
    return Programme(name=name, shots=tuple(shots))


PROGRAMMES: Final = (
    _one(
        "three people talk",
        12,
        _sits((250, 330, 170), 0),
        _sits((640, 300, 160), 1),
        _sits((1000, 340, 180), 2),
    ),
    _one(
        "two pass each other",
        8,
        _walks(0, 1, 6, (150, 340, 150), (1130, 360, 150)),
        _walks(1, 1.5, 6.5, (1130, 330, 130), (150, 320, 130)),
    ),
    _one(
        "two pass a third, closely",
        9,
        _walks(0, 1, 7, (140, 380, 190), (1140, 380, 190)),
        _sits((640, 300, 130), 1),
        _walks(2, 2, 7, (1180, 300, 140), (100, 300, 140)),
    ),
    _one(
        "hidden for a second",
        12,
        _sits((350, 330, 160), 0, (2.0, 3.0), (7.3, 8.3)),
        Face(
            path=going(1, 10, (600, 350, 140), (1100, 340, 140)),
            look=1,
            away=((4.0, 5.0), (7.1, 8.1)),
        ),
    ),
    _cut("hard cuts", one_set=False),
    _cut("hard cuts in one set", one_set=True),
    _one(
        "leaves and comes back",
        16,
        _sits((900, 320, 180), 1),
        Face(
            path=_there_and_back(
                going(2, 4, (450, 340, 160), (-200, 340, 160)),
                going(9, 11, (-200, 340, 160), (450, 340, 160)),
                6,
            ),
            look=0,
        ),
    ),
    _one(
        "turns to profile",
        12,
        _sits((350, 330, 170), 0, (1, 1.5), (2.2, 3), (5, 5.3), (6.1, 7), (9, 10.2)),
        _sits((850, 300, 180), 3, (0.7, 1.1), (3.3, 4.2), (5.1, 6.5), (8, 8.4)),
    ),
    _one(
        "zooms",
        10,
        _zoomed(0, (420, 340, 100), (250, 380, 260)),
        _zoomed(1, (740, 340, 100), (1000, 380, 260)),
    ),
    _one(
        "two swap sides",
        8,
        Face(path=going(2, 4.5, (400, 400, 180), (880, 400, 180), gently=True), look=0),
        Face(path=going(2, 4.5, (880, 290, 150), (400, 290, 150), gently=True), look=1),
    ),
    Programme(
        name="the camera pans",
        shots=(
            Shot(
                length_s=10,
                turned_px=_turned,
                faces=tuple(
                    _panned((x, 330, 150), look) for look, x in enumerate((250, 560, 870, 1250))
                ),
            ),
        ),
    ),
    _one(
        "twelve in rows",
        8,
        *(
            _sits((130 + 200 * (i % 6), 220 + 250 * (i // 6), 90), i, (2 + i / 4, 2.6 + i / 4))
            for i in range(12)
        ),
    ),
    _one(
        "one walks fast",
        6,
        _walks(0, 1, 3.5, (120, 340, 120), (1160, 360, 130)),
        _sits((620, 560, 130), 2),
    ),
)
