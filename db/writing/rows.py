"""A segment's row, and its observations as arrays."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from db.tables.shows import AFFECT, EMOTIONS, POSE, TRACKS_PER_BROADCAST

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Microseconds = NDArray[np.datetime64]


def _no_times() -> Microseconds:
    return np.zeros(0, dtype="datetime64[us]")


SegmentStatus = Literal["recorded", "analysed", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    """One row of `segments`; the functions of `db.writing.writes` set its status.

    started_at: aware, with `duration_s` the half-open range of time that the segment owns.
    offset_s: its start in the file at `path`. lag_ms: end of segment to its rows.
    tracker_state: JSON without NaN. is_ad: marked as an advertisement by the source; None if
    the source marks nothing. needs: names of files next to `path` that are decoded before
    it; None for none. machine: the machine with that path; if path and machine are None,
    stored values are kept. frames_us: the analysed frames, microseconds after
    `started_at`; None if unknown.
    """

    channel_id: int
    broadcast_id: int
    sequence: int
    started_at: datetime
    duration_s: float
    path: str | None = None
    offset_s: float = 0.0
    start_is_estimated: bool = False
    width_px: int | None = None
    height_px: int | None = None
    frames_analysed: int | None = None
    analysed_fps: float | None = None
    lag_ms: int | None = None
    model: str | None = None
    tracker_state: dict[str, Any] | None = None
    status: SegmentStatus = "recorded"
    error: str | None = None
    is_ad: bool | None = None
    needs: list[str] | None = None
    machine: str | None = None
    frames_us: list[int] | None = None

    def __post_init__(self) -> None:
        """Check the clock and the duration."""
        if self.started_at.tzinfo is None:
            raise ValueError(f"started_at must be aware, not {self.started_at!r}")
        if not self.ended_at > self.started_at:
            raise ValueError(f"duration_s must be at least a microsecond, not {self.duration_s}")

    @property
    def ended_at(self) -> datetime:
        """Return the end of the range, exclusive."""
        return self.started_at + timedelta(seconds=self.duration_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservationRows:
    """The observations of a segment.

    ts: datetime64[us] (M,), UTC. track: int64 (M,), number within the broadcast, from 1.
    boxes: float32 (M, 4), x0 y0 x1 y1 in source pixels. scores: float32 (M,).
    probs, smoothed: float32 (M, 8), columns as `EMOTIONS`; NaN is stored as null.
    affect: float32 (M, 2), columns as `AFFECT`, likewise; None if the network has neither.
    pose: float32 (M, 2), columns as `POSE`, likewise.
    shots: datetime64[us] (S,), UTC, starts of shots. seen_before: (S,), the last frame before
    each; NaT before a broadcast's first.
    """

    ts: Microseconds
    track: Int64
    boxes: Float32
    scores: Float32
    probs: Float32
    smoothed: Float32
    affect: Float32 | None = None
    pose: Float32 | None = None
    shots: Microseconds = field(default_factory=_no_times)
    seen_before: Microseconds = field(default_factory=_no_times)

    def __post_init__(self) -> None:
        """Check shapes, and values that the table would refuse."""
        m, k = len(self.ts), len(EMOTIONS)
        for name, dtype, shape in (
            ("ts", "datetime64[us]", (m,)),
            ("track", "int64", (m,)),
            ("boxes", "float32", (m, 4)),
            ("scores", "float32", (m,)),
            ("probs", "float32", (m, k)),
            ("smoothed", "float32", (m, k)),
            ("affect", "float32", (m, len(AFFECT))),
            ("pose", "float32", (m, len(POSE))),
            ("shots", "datetime64[us]", (len(self.shots),)),
            ("seen_before", "datetime64[us]", (len(self.shots),)),
        ):
            array = getattr(self, name)
            if array is None and name in ("affect", "pose"):
                continue
            if array.dtype != np.dtype(dtype) or array.shape != shape:
                raise ValueError(
                    f"{name}: {array.dtype}{array.shape} where {dtype}{shape} is expected"
                )
        if np.isnat(self.ts).any() or np.isnat(self.shots).any():
            raise ValueError("ts: a time is missing")
        if m and not (self.track.min() >= 1 and self.track.max() < TRACKS_PER_BROADCAST):
            raise ValueError(f"track: numbers must be from 1 to {TRACKS_PER_BROADCAST - 1}")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes, scores: must be finite")

    def __len__(self) -> int:
        """Return the number of observations."""
        return len(self.ts)

    def take(self, rows: NDArray[Any]) -> "ObservationRows":
        """Return the rows of these indices or mask, in that order, with all shots."""
        return replace(
            self,
            ts=self.ts[rows],
            track=self.track[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            probs=self.probs[rows],
            smoothed=self.smoothed[rows],
            affect=None if self.affect is None else self.affect[rows],
            pose=None if self.pose is None else self.pose[rows],
        )

    def within(self, start: datetime, end: datetime) -> "ObservationRows":
        """Return the rows of [start, end), by time, then track; of duplicates the best score."""
        low, high = to_microseconds(start), to_microseconds(end)
        kept = np.flatnonzero((self.ts >= low) & (self.ts < high))
        order = np.lexsort((-self.scores[kept], self.track[kept], self.ts[kept]))
        kept = kept[order]
        ts, track = self.ts[kept], self.track[kept]
        first = np.ones(len(kept), dtype=bool)
        first[1:] = (ts[1:] != ts[:-1]) | (track[1:] != track[:-1])
        begin = (self.shots >= low) & (self.shots < high)
        return replace(
            self.take(kept[first]), shots=self.shots[begin], seen_before=self.seen_before[begin]
        )


def to_microseconds(moment: datetime) -> np.datetime64:
    """Convert an aware time to numpy: UTC, naive, exact."""
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError(f"a time must be aware, not {moment!r}")
    return np.datetime64(moment.replace(tzinfo=None) - offset, "us")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCounts:
    """The result of storing a segment.

    observations: rows written. replaced: previous rows. tracks: distinct, of the written
    rows. stale_tracks: removed, without observations. outside: not
    written, because their time belongs to another segment. duplicates: not written, because
    another had the same time and track.
    """

    observations: int
    replaced: int
    tracks: int
    stale_tracks: int
    outside: int
    duplicates: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastRow:
    """A broadcast's row in the database."""

    id: int
    started_at: datetime
    planned_end: datetime | None
    status: str
