"""Which frames of a segment are searched whole, and in which windows the others are.

The second frame is searched whole, then one every `LOOK_S`, the last but one, and both sides of a
jump of the colours. Where two of these looks see the same faces, the frames between are searched
around the boxes between theirs (`near`), and those at the segment's ends around the nearest
look's. A quarter of the pixels of the frame in the middle tells whether somebody else was there in
the meantime. Where two looks see other faces, because somebody came, left, turned away or went far,
the frame in the middle is searched whole, and so on down to neighbours; so is a frame where a face
is not found where it was expected. What moves much is looked at as if there were no such rule.

All of it depends on the segment's frames alone: the segment before is not asked.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from torch import Tensor

from emotion.detection import boxes
from emotion.detection.detect import Detector, no_faces
from emotion.detection.near import detect_near, pays
from emotion.linking import cuts
from emotion.linking.assign import best_pairs
from emotion.types import Faces, Float32, Frames, Int64

LOOK_S: Final = 1.4
"""The longest time between two searches of the whole picture."""

NEWCOMER_S: Final = 0.4
"""A face that stays is found within this time. Frames further apart are all searched whole."""

SUSPECT: Final = 0.08
"""Two frames that differ by more (`cuts.difference`) are both searched whole."""

_FAR: Final = 1.5  # of the smaller face's side, that a face moved between two looks
_GROWN: Final = 1.5
_THERE: Final = 0.3  # overlap of a face with where it was expected
_LONG: Final = 4  # frames between two looks: the middle one is looked at from afar, for others
_US: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """Frames `between` that two looks, at frames a and b, see the same faces on either side of.

    before, after: (N, 4), each face's box at a and at b. At a segment's ends a and b are one look.
    """

    a: int
    b: int
    before: Float32
    after: Float32
    between: range


class Search:
    """The faces of one segment, whose frames come one after the other."""

    def __init__(self, detector: Detector, workers: ThreadPoolExecutor) -> None:
        """Start before the first frame."""
        self._detector, self._workers = detector, workers
        self._frames: list[Frames] = []
        self._pictures: list[Tensor] = []
        self._histograms: list[Float32] = []
        self._begun: dict[int, Future[Faces]] = {}

    def see(self, frame: Frames, picture: Tensor, histogram: Float32) -> None:
        """Take the next frame, one; begin to search it where that is certain already."""
        at = len(self._frames)
        self._frames.append(frame)
        self._pictures.append(picture)
        self._histograms.append(histogram)
        if at == 0:
            return
        if cuts.difference(self._histograms[-2], histogram) > SUSPECT:
            self._begin(at - 1)
            self._begin(at)
        now_s = float(frame.offset_s[0])
        if now_s - float(self._frames[at - 1].offset_s[0]) > NEWCOMER_S + _US:
            self._begin(at - 1)
            self._begin(at)
        last = max(self._begun, default=None)
        if last is None or now_s - float(self._frames[last].offset_s[0]) >= LOOK_S - _US:
            self._begin(at)

    def cancel(self) -> None:
        """Start no further search."""
        for future in self._begun.values():
            future.cancel()

    def faces(self) -> Faces:
        """Return the faces of all frames."""
        n = len(self._frames)
        if n == 0:
            return no_faces()
        if max(self._begun, default=-1) < n - 2 or n == 1:
            self._begin(max(0, n - 2))
        around = self._around(self._stretches())
        for i in [i for i in range(n) if around.get(i) is None]:
            self._begin(i)
        found = [self._whole(i) if (faces := around.get(i)) is None else faces for i in range(n)]
        return Faces(
            frame=np.repeat(np.arange(n), [len(faces) for faces in found]),
            boxes=np.concatenate([faces.boxes for faces in found]),
            scores=np.concatenate([faces.scores for faces in found]),
            landmarks=np.concatenate([faces.landmarks for faces in found]),
        )

    def _begin(self, at: int) -> None:
        if at not in self._begun:
            self._begun[at] = self._workers.submit(
                self._detector.detect, self._frames[at], self._pictures[at][None]
            )

    def _whole(self, at: int) -> Faces:
        self._begin(at)
        return self._begun[at].result()

    def _stretches(self) -> list[_Stretch]:
        """Return the frames that need not be searched whole; search those in the middle that do."""
        n = len(self._frames)
        looks = sorted(self._begun)
        stretches: list[_Stretch] = []
        todo = list(pairwise(looks))
        while todo:
            a, b = todo.pop()
            if b - a < 2:
                continue
            before, after = self._whole(a).boxes, self._whole(b).boxes
            # Not asked of crowds: to pair a thousand faces takes seconds.
            row = same_faces(before, after) if self._pays(before) else None
            if row is not None:
                one = _Stretch(a=a, b=b, before=before, after=after[row], between=range(a + 1, b))
                if len(one.between) < _LONG or not self._somebody_else(one):
                    stretches.append(one)
                    continue
            middle = (a + b) // 2
            self._begin(middle)
            todo += [(a, middle), (middle, b)]
        for end, look in ((0, min(self._begun)), (n - 1, max(self._begun))):
            boxes_ = self._whole(look).boxes
            if end not in self._begun and self._pays(boxes_):
                stretches.append(
                    _Stretch(
                        a=look, b=look, before=boxes_, after=boxes_, between=range(end, end + 1)
                    )
                )
        return stretches

    def _somebody_else(self, one: _Stretch) -> bool:
        """Tell whether a quarter of the middle frame's pixels show a face that is not expected."""
        at = (one.a + one.b) // 2
        frame, picture = self._frames[at], self._pictures[at][::2, ::2].contiguous()
        small = replace(frame, images=picture[None].numpy())
        seen = self._workers.submit(self._detector.detect, small, picture[None]).result()
        overlap = boxes.iou_of(seen.boxes, self._expected(one, at))
        return bool((overlap.max(axis=1, initial=0) < _THERE).any())

    def _expected(self, one: _Stretch, at: int) -> Float32:
        share = self._apart_s(one.a, at) / (self._apart_s(one.a, one.b) or 1.0)
        return one.before + np.float32(min(1.0, max(0.0, share))) * (one.after - one.before)

    def _inside(self, boxes_: Float32) -> Float32:
        size = (self._frames[0].source_width_px, self._frames[0].source_height_px)
        return np.clip(boxes_, 0, np.array(size * 2, dtype=np.float32))

    def _apart_s(self, a: int, b: int) -> float:
        return float(self._frames[b].offset_s[0] - self._frames[a].offset_s[0])

    def _pays(self, boxes_: Float32) -> bool:
        return pays(self._frames[0], boxes_)

    def _around(self, stretches: list[_Stretch]) -> dict[int, Faces | None]:
        """Return what is found in each frame around where it is expected.

        None where that is not what was expected. The looks' own frames are searched so too: what
        their boxes differ by from those of the whole picture, the others' are moved by.
        """
        frame, where = [], [np.zeros((0, 4), np.float32)]
        for one in stretches:
            for i in {one.a, one.b, *one.between}:
                frame += [i] * len(one.before)
                where.append(self._expected(one, i))
        found = self._workers.submit(
            detect_near,
            self._detector,
            self._frames[0],
            self._pictures,
            np.array(frame, dtype=np.int64),
            np.concatenate(where),
        ).result()
        around: dict[int, Faces | None] = {}
        for one in stretches:
            known = [_of(self._expected(one, i), found, i) for i in (one.a, one.b)]
            off = [
                whole - faces.boxes
                for whole, faces in zip((one.before, one.after), known, strict=True)
                if faces is not None
            ]
            for i in one.between:
                faces = _of(self._expected(one, i), found, i)
                if faces is not None and off:
                    moved = (faces.boxes + np.mean(off, axis=0)).astype(np.float32)
                    faces = replace(faces, boxes=self._inside(moved))
                around[i] = faces
        return around


def _of(expected: Float32, found: Faces, frame: int) -> Faces | None:
    """Return the faces found in a frame, in the order of the expected boxes.

    None where one is not there, or one more is.
    """
    rows = np.flatnonzero(found.frame == frame)
    if len(expected) != len(rows):
        return None
    overlap = boxes.iou_of(expected, found.boxes[rows])
    pairs = best_pairs(np.where(overlap > _THERE, overlap, 0.0))
    if len(pairs) < len(rows):
        return None
    return found.rows(rows[np.array([j for _, j in pairs], dtype=np.int64)])


def same_faces(a: Float32, b: Float32) -> Int64 | None:
    """Return the row in `b` (N, 4) of each box of `a` (N, 4); None where one has no other."""
    if len(a) != len(b):
        return None
    sides = [(x[:, 2:] - x[:, :2]).max(axis=1, initial=1).astype(np.float64) for x in (a, b)]
    centres = [(x[:, :2] + x[:, 2:]).astype(np.float64) / 2 for x in (a, b)]
    smaller = np.minimum(sides[0][:, None], sides[1])
    apart = np.linalg.norm(centres[0][:, None] - centres[1], axis=2) / smaller
    grown = np.abs(np.log(sides[0][:, None] / sides[1]))
    fits = (apart <= _FAR) & (grown <= np.log(_GROWN))
    pairs = best_pairs(np.where(fits, _FAR + 1 - apart, 0.0))
    return np.array([j for _, j in pairs], dtype=np.int64) if len(pairs) == len(a) else None
