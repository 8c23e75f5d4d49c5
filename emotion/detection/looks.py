"""Selects the frames of a segment that are searched whole, and the windows in the others.

A frame that is searched whole is a "look": the second frame, then one every `LOOK_S`, the last but
one, and both sides of a colour jump. If two looks have the same faces, the frames between
are searched around the interpolated boxes (`near`), and those at the segment's ends around the
boxes of the nearest look. The middle frame at half resolution shows whether another face appeared
in between. If two looks have different faces, because a face appeared, left, turned away or moved
far, the middle frame is searched whole, and so on recursively; so is a frame where an expected
face is not found. With much motion this amounts to searching every frame whole.

The result depends only on the segment's frames, not on the segment before.
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
"""Maximum time between two looks, in seconds."""

NEWCOMER_S: Final = 0.4
"""Seconds within which a new face is found. Frames further apart are all searched whole."""

COLOUR_JUMP: Final = 0.08
"""Two frames that differ by more (`cuts.difference`, 0 to 1) are both searched whole."""

_MAX_MOVE: Final = 1.5  # between two looks, in sides of the smaller face
_MAX_GROWTH: Final = 1.5  # ratio of a face's sides in two looks
_MIN_IOU: Final = 0.3  # of a found with an expected box
_MIN_CHECKED: Final = 4  # frames between two looks from which the middle one is checked
_US: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """Frames `between` two looks, at frames a and b, that have the same faces.

    before, after: (N, 4), each face's box at a and at b. At a segment's ends a and b are one look.
    """

    a: int
    b: int
    before: Float32
    after: Float32
    between: range


class Search:
    """Detection in one segment, whose frames arrive one by one."""

    def __init__(self, detector: Detector, workers: ThreadPoolExecutor) -> None:
        """Start before the first frame."""
        self._detector, self._workers = detector, workers
        self._frames: list[Frames] = []
        self._pictures: list[Tensor] = []
        self._histograms: list[Float32] = []
        self._begun: dict[int, Future[Faces]] = {}

    def see(self, frame: Frames, picture: Tensor, histogram: Float32) -> None:
        """Add the next frame (one); start to search it if it is certainly a look."""
        at = len(self._frames)
        self._frames.append(frame)
        self._pictures.append(picture)
        self._histograms.append(histogram)
        if at == 0:
            return
        if cuts.difference(self._histograms[-2], histogram) > COLOUR_JUMP:
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
        """Cancel the searches that have not started."""
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
        """Return the frames that need not be searched whole; search the middle ones that do."""
        n = len(self._frames)
        looks = sorted(self._begun)
        stretches: list[_Stretch] = []
        todo = list(pairwise(looks))
        while todo:
            a, b = todo.pop()
            if b - a < 2:
                continue
            before, after = self._whole(a).boxes, self._whole(b).boxes
            # Not for crowds: pairing a thousand faces takes seconds.
            row = same_faces(before, after) if self._pays(before) else None
            if row is not None:
                one = _Stretch(a=a, b=b, before=before, after=after[row], between=range(a + 1, b))
                if len(one.between) < _MIN_CHECKED or not self._has_new_face(one):
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

    def _has_new_face(self, one: _Stretch) -> bool:
        """Return whether the middle frame, at half resolution, has an unexpected face."""
        at = (one.a + one.b) // 2
        frame, picture = self._frames[at], self._pictures[at][::2, ::2].contiguous()
        small = replace(frame, images=picture[None].numpy())
        seen = self._workers.submit(self._detector.detect, small, picture[None]).result()
        overlap = boxes.iou_of(seen.boxes, self._expected(one, at))
        return bool((overlap.max(axis=1, initial=0) < _MIN_IOU).any())

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
        """Return the faces of each frame, found around the expected boxes.

        None if they are not the expected ones. The looks' own frames are searched in this way too:
        the offset from their boxes of the whole picture corrects the others.
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

    None if one is missing, or there are more.
    """
    rows = np.flatnonzero(found.frame == frame)
    if len(expected) != len(rows):
        return None
    overlap = boxes.iou_of(expected, found.boxes[rows])
    pairs = best_pairs(np.where(overlap > _MIN_IOU, overlap, 0.0))
    if len(pairs) < len(rows):
        return None
    return found.rows(rows[np.array([j for _, j in pairs], dtype=np.int64)])


def same_faces(a: Float32, b: Float32) -> Int64 | None:
    """Return the row in `b` (N, 4) of each box of `a` (N, 4); None unless all have a match."""
    if len(a) != len(b):
        return None
    sides = [(x[:, 2:] - x[:, :2]).max(axis=1, initial=1).astype(np.float64) for x in (a, b)]
    centres = [(x[:, :2] + x[:, 2:]).astype(np.float64) / 2 for x in (a, b)]
    smaller = np.minimum(sides[0][:, None], sides[1])
    apart = np.linalg.norm(centres[0][:, None] - centres[1], axis=2) / smaller
    grown = np.abs(np.log(sides[0][:, None] / sides[1]))
    fits = (apart <= _MAX_MOVE) & (grown <= np.log(_MAX_GROWTH))
    pairs = best_pairs(np.where(fits, _MAX_MOVE + 1 - apart, 0.0))
    return np.array([j for _, j in pairs], dtype=np.int64) if len(pairs) == len(a) else None
