"""The data types of `emotion`: frozen dataclasses of arrays, with checked shapes."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

EMOTIONS: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The emotions, in the order of every `probs` array's columns and of the database's columns."""

K: Final = len(EMOTIONS)

UInt8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Microseconds = NDArray[np.datetime64]


def _no_times() -> Microseconds:
    return np.zeros(0, dtype="datetime64[us]")


class EmotionError(Exception):
    """Root of this package's errors; each message is one line with cause and remedy."""


class StateError(EmotionError):
    """A stored state of tracks cannot be continued by this version."""


def _check(
    name: str, array: NDArray[np.generic], dtype: object, shape: tuple[int | None, ...]
) -> None:
    """Raise ValueError unless `array` has this dtype and shape (None: any length)."""
    fits = len(array.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:  # type: ignore[call-overload]
        raise ValueError(f"{name}: {array.dtype}{array.shape} where {dtype}{shape} is expected")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Pictures of one segment.

    images: uint8 (N, H, W, 3), RGB, possibly smaller than the source.
    offset_s: float64 (N,), seconds from the segment's first video frame, increasing.
    source_width_px, source_height_px: size of the source's picture as shown (after rotation).
    """

    images: UInt8
    offset_s: Float64
    source_width_px: int
    source_height_px: int

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("images", self.images, np.uint8, (None, None, None, 3))
        _check("offset_s", self.offset_s, np.float64, (len(self.images),))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """Faces found in frames.

    frame: int64 (M,), index into the frames, non-decreasing.
    boxes: float32 (M, 4), x0 y0 x1 y1 in source pixels.
    scores: float32 (M,), 0 to 1.
    landmarks: float32 (M, 5, 2), x y in source pixels: right eye, left eye, nose, right and left
        corner of the mouth (the person's right, as RetinaFace has them).
    """

    frame: Int64
    boxes: Float32
    scores: Float32
    landmarks: Float32

    def __post_init__(self) -> None:
        """Check shapes."""
        m = len(self.frame)
        _check("frame", self.frame, np.int64, (m,))
        _check("boxes", self.boxes, np.float32, (m, 4))
        _check("scores", self.scores, np.float32, (m,))
        _check("landmarks", self.landmarks, np.float32, (m, 5, 2))

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.frame)

    def rows(self, rows: slice | NDArray[np.integer]) -> "Faces":
        """Return some of the faces."""
        return Faces(
            frame=self.frame[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            landmarks=self.landmarks[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """The analysis of one segment: a pure function of its bytes and the model's name.

    offset_s: float64 (N,), the analysed frames, seconds from the segment's first video frame.
    histograms: float32 (N, B), colour histogram of each frame (rows sum to 1), for shot cuts.
    faces: M faces; `faces.frame` indexes `offset_s`.
    probs: float32 (M, 8), columns as EMOTIONS, rows sum to 1; NaN where the network lacks a class.
    affect: float32 (M, 2), valence and arousal from -1 to 1, NaN where the network lacks one of
        them; None where it gives neither.
    """

    offset_s: Float64
    histograms: Float32
    faces: Faces
    probs: Float32
    affect: Float32 | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        n = len(self.offset_s)
        _check("offset_s", self.offset_s, np.float64, (n,))
        _check("histograms", self.histograms, np.float32, (n, None))
        _check("probs", self.probs, np.float32, (len(self.faces), K))
        if self.affect is not None:
            _check("affect", self.affect, np.float32, (len(self.faces), 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """One face, at one time, on one track: the rows of the history, unique in (ts, track).

    ts: datetime64[us] (M,), UTC, non-decreasing.
    track: int64 (M,), track number within the broadcast, from 1.
    boxes: float32 (M, 4), x0 y0 x1 y1 in source pixels.
    scores: float32 (M,).
    probs, smoothed: float32 (M, 8), columns as EMOTIONS; NaN where the network lacks a class.
    affect: float32 (M, 2), valence and arousal, as in `Detections`; not smoothed.
    pose: float32 (M, 2), roll in degrees and the yaw proxy, as `emotion.linking.pose` has them.
    frames: datetime64[us] (N,), every analysed frame, also those without a face.
    shots: datetime64[us] (S,), first frames of shots that begin here. seen_before: (S,), the last
        frame before each, NaT before a broadcast's first.
    """

    ts: Microseconds
    track: Int64
    boxes: Float32
    scores: Float32
    probs: Float32
    smoothed: Float32
    affect: Float32 | None = None
    pose: Float32 | None = None
    frames: Microseconds = field(default_factory=_no_times)
    shots: Microseconds = field(default_factory=_no_times)
    seen_before: Microseconds = field(default_factory=_no_times)

    def __post_init__(self) -> None:
        """Check shapes."""
        m = len(self.ts)
        _check("ts", self.ts, "datetime64[us]", (m,))
        _check("track", self.track, np.int64, (m,))
        _check("boxes", self.boxes, np.float32, (m, 4))
        _check("scores", self.scores, np.float32, (m,))
        _check("probs", self.probs, np.float32, (m, K))
        _check("smoothed", self.smoothed, np.float32, (m, K))
        for name in ("affect", "pose"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), np.float32, (m, 2))
        _check("frames", self.frames, "datetime64[us]", (None,))
        _check("shots", self.shots, "datetime64[us]", (None,))
        _check("seen_before", self.seen_before, "datetime64[us]", (len(self.shots),))

    def __len__(self) -> int:
        """Return the number of observations."""
        return len(self.ts)
