"""Tracking: assigns the faces of consecutive frames to tracks.

Hungarian assignment on the overlap of boxes that are enlarged ("buffered IoU", Yang et al.,
"Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering
the Matching Space", WACV 2023, arXiv:2211.14317), because at a few frames a second the boxes of a
moving face hardly overlap. Each box is first shifted by its track's velocity, or by a motion of the
camera that explains more faces, and enlarged more the longer its face was not seen; faces of
similar size are preferred. The constants were tuned on `benchmarks.tracks.measure`, with other
random seeds than it reports.
"""

from dataclasses import dataclass
from math import exp
from typing import Any, Final

import numpy as np

from emotion.linking import camera
from emotion.linking.assign import best_pairs
from emotion.types import Float32, Float64, Int64, StateError

MAX_AGE_S: Final = 2.0
"""Seconds that a face may be missing before its track ends. Covers a head that turns to profile and
back, and one missed frame at 1 frame a second."""

_BUFFER: Final = 0.3  # of the box's sides, added on each side (the paper's narrower setting)
_BUFFER_A_SECOND: Final = 1.0  # added to _BUFFER for each second that the face was not seen
_MAX_BUFFER: Final = 2.0
_MIN_OVERLAP: Final = 0.1
_STAYS: Final = 0.8  # overlap of a face with itself, predicted, after 0.2 s of talk
_SIZE_WEIGHT: Final = 2.0  # twice the width counts like a quarter of the overlap
_VELOCITY_TIME_S: Final = 0.3  # over which a velocity is averaged, against the jitter of boxes
_US: Final = 1_000_000

_SOON_US: Final = 300_000  # between two frames in which somebody may run by widths of a face
_RUN: Final = 3.3  # widths to the side
_RUN_UP: Final = 0.6  # widths up or down
_GROWN: Final = 0.25  # logarithm of the sizes' ratio


@dataclass(kw_only=True, slots=True)
class _Track:
    """A face seen within the maximum age; velocity of its centre in pixels a second."""

    number: int
    seen_us: int
    box: Float64
    velocity: Float64

    def predicted(self, ts_us: int) -> Float64:
        return self.box + np.tile(self.velocity * ((ts_us - self.seen_us) / _US), 2)

    def move(self, ts_us: int, box: Float64, *, runs: bool = False) -> None:
        """Update box and velocity. runs: fast motion, so the velocity is not averaged."""
        moved = ((box - self.box)[:2] + (box - self.box)[2:]) / 2
        elapsed_s = (ts_us - self.seen_us) / _US
        gain = 1.0 if runs else 1 - exp(-elapsed_s / _VELOCITY_TIME_S)
        self.velocity = self.velocity + gain * (moved / elapsed_s - self.velocity)
        self.box, self.seen_us = box, ts_us

    def carry(self, motion: camera.Motion) -> None:
        """Move the box with the picture; what the velocity was before the camera moved is void."""
        self.box, self.velocity = motion.of(self.box), np.zeros(2)


class Tracker:
    """Tracks of one broadcast. Numbers count up from 1 and are never reused."""

    def __init__(self, max_age_s: float = MAX_AGE_S) -> None:
        """Start with no track."""
        self._max_age_us = round(max_age_s * _US)
        self._next = 1
        self._tracks: list[_Track] = []

    @classmethod
    def from_state(cls, state: dict[str, Any], max_age_s: float = MAX_AGE_S) -> "Tracker":
        """Continue from `state`. Raises StateError if it is invalid."""
        self = cls(max_age_s)
        try:
            self._next = int(state["next"])
            self._tracks = [
                _Track(
                    number=int(t["number"]),
                    seen_us=int(t["seen_us"]),
                    box=np.array(t["box"], dtype=np.float64).reshape(4),
                    velocity=np.array(t["velocity"], dtype=np.float64).reshape(2),
                )
                for t in state["tracks"]
            ]
        except (KeyError, TypeError, ValueError) as e:
            raise StateError(f"not a tracker's state: {e!r}") from e
        return self

    @property
    def state(self) -> dict[str, Any]:
        """Return the whole state, JSON-serialisable, for `from_state`."""
        tracks = [
            {
                "number": t.number,
                "seen_us": t.seen_us,
                "box": t.box.tolist(),
                "velocity": t.velocity.tolist(),
            }
            for t in self._tracks
        ]
        return {"next": self._next, "tracks": tracks}

    @property
    def numbers(self) -> frozenset[int]:
        """Return the numbers of the tracks that the next frame can continue."""
        return frozenset(t.number for t in self._tracks)

    def number_from(self, number: int) -> None:
        """Set the smallest number of new tracks."""
        self._next = max(self._next, number)

    def reset(self) -> None:
        """End all tracks, as after a cut; numbers continue."""
        self._tracks = []

    def faces_stay(self, ts_us: int, boxes: Float32) -> bool:
        """Return whether at least half of the faces last seen are at their predicted places.

        False without tracks.
        """
        newest_us = max((t.seen_us for t in self._tracks), default=0)
        last = [t for t in self._tracks if t.seen_us == newest_us < ts_us]
        if not last or not len(boxes):
            return False
        predicted = np.array([t.predicted(ts_us) for t in last])
        overlap = buffered_iou(predicted, boxes.astype(np.float64), np.zeros(len(last)))
        return float((overlap.max(axis=1) > _STAYS).mean()) >= 0.5

    def update(self, ts_us: int, boxes: Float32) -> Int64:
        """Return the track number (M,) of each box (M, 4) of the frame at `ts_us`.

        Frames must be in order of time; an earlier one ends all tracks, as
        does a gap of more than the maximum age. An unassigned face starts a new track.
        """
        self._tracks = [t for t in self._tracks if 0 < ts_us - t.seen_us <= self._max_age_us]
        numbers = np.zeros(len(boxes), dtype=np.int64)
        new_boxes = boxes.astype(np.float64)
        predicted = np.array([t.predicted(ts_us) for t in self._tracks]).reshape(-1, 4)
        motion = self._camera_motion(ts_us, predicted, new_boxes)
        if motion is not None:
            for one in self._tracks:
                one.carry(motion)
            predicted = np.array([t.box for t in self._tracks])
        unseen_s = np.array([(ts_us - t.seen_us) / _US for t in self._tracks])
        fit = _fit(predicted, new_boxes, unseen_s)
        left = set(range(len(self._tracks)))
        for i, j in best_pairs(fit):
            self._tracks[i].move(ts_us, new_boxes[j])
            numbers[j] = self._tracks[i].number
            left.discard(i)
        newest_us = max((t.seen_us for t in self._tracks if t.seen_us < ts_us), default=0)
        # Tracks seen once have no velocity. Longer ones are matched only at their predicted place.
        before = [
            i
            for i in sorted(left)
            if self._tracks[i].seen_us == newest_us and not self._tracks[i].velocity.any()
        ]
        new = np.flatnonzero(numbers == 0).tolist()
        if motion is None and before and new and ts_us - newest_us <= _SOON_US:
            for i, j in _ran(predicted[before], new_boxes[new]):
                self._tracks[before[i]].move(ts_us, new_boxes[new[j]], runs=True)
                numbers[new[j]] = self._tracks[before[i]].number
        for j in np.flatnonzero(numbers == 0).tolist():
            numbers[j] = self._next
            self._tracks.append(
                _Track(number=self._next, seen_us=ts_us, box=new_boxes[j], velocity=np.zeros(2))
            )
            self._next += 1
        return numbers

    def _camera_motion(
        self, ts_us: int, predicted: Float64, boxes: Float64
    ) -> camera.Motion | None:
        """Return how the camera moved since the last frame, if that was a short time ago.

        Faces that were missed in one frame are searched too.
        """
        newest_us = max((t.seen_us for t in self._tracks), default=0)
        last = [i for i, t in enumerate(self._tracks) if newest_us - t.seen_us <= _SOON_US]
        if not last or ts_us - newest_us > _SOON_US:
            return None
        before = np.array([self._tracks[i].box for i in last])
        return camera.motion(before, predicted[last], boxes)


def _fit(predicted: Float64, boxes: Float64, unseen_s: Float64) -> Float64:
    """Return (T, M), the fit of each box with each track; 0 means no match."""
    margin = np.minimum(_BUFFER + _BUFFER_A_SECOND * unseen_s, _MAX_BUFFER)
    overlap = buffered_iou(predicted, boxes, margin)
    overlap[overlap < _MIN_OVERLAP] = 0  # so that two bad matches do not replace a good one
    tiny = np.finfo(np.float64).tiny
    widths = [np.log(np.maximum(b[:, 2] - b[:, 0], tiny)) for b in (predicted, boxes)]
    fit: Float64 = overlap * np.exp(-_SIZE_WEIGHT * np.abs(widths[0][:, None] - widths[1]))
    return fit


def _ran(predicted: Float64, boxes: Float64) -> list[tuple[int, int]]:
    """Return the pairs of a track and a distant face that are each other's only candidate.

    Fast people move sideways, and their faces keep their size.
    """
    width = [b[:, 2] - b[:, 0] for b in (predicted, boxes)]
    apart = (boxes[None, :, :2] + boxes[None, :, 2:] - predicted[:, None, :2]) / 2
    apart = np.abs(apart - predicted[:, None, 2:] / 2) / np.maximum(width[0], 1e-9)[:, None, None]
    grown = np.abs(np.log(np.maximum(width[1], 1e-9) / np.maximum(width[0], 1e-9)[:, None]))
    may = (apart[..., 0] <= _RUN) & (apart[..., 1] <= _RUN_UP) & (grown <= _GROWN)
    only = may & (may.sum(axis=0) == 1) & (may.sum(axis=1) == 1)[:, None]
    return [(int(i), int(j)) for i, j in np.argwhere(only)]


def buffered_iou(a: Float64, b: Float64, margin: Float64) -> Float64:
    """Return (A, B), the overlap of boxes (A, 4) and (B, 4).

    Each side of both boxes of a pair is moved out by `margin` (A,) of the box's own width, height.
    """

    def enlarged(boxes: Float64) -> Float64:
        out = margin[:, None, None] * (boxes[..., 2:] - boxes[..., :2])
        return np.concatenate((boxes[..., :2] - out, boxes[..., 2:] + out), axis=2)

    a, b = enlarged(a[:, None, :]), enlarged(b[None, :, :])  # (A, 1, 4), (A, B, 4)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.prod(a[..., 2:] - a[..., :2], axis=2) + np.prod(b[..., 2:] - b[..., :2], axis=2)
    overlap: Float64 = shared / np.maximum(areas - shared, np.finfo(np.float64).tiny)
    return overlap
