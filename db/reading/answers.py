"""The results of `db.reading.queries`."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Microseconds = NDArray[np.datetime64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelRow:
    """A channel with shows, and the start of the newest one."""

    slug: str
    n_broadcasts: int
    last_started_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A channel's history between two times.

    n_frames: analysed. segments: count by status. share: mean of each smoothed emotion over the
    seconds with a face, in the order of `EMOTIONS`; None if the network lacks it or there are no
    faces. time_share: likewise, the share of those seconds in which it was the strongest.
    emotion: the strongest of them. median_lag_ms, p95_lag_ms: from the end of a segment to its
    rows. first_ts, last_ts: of the observations.
    """

    channel: str
    n_observations: int
    n_tracks: int
    n_frames: int
    segments: dict[str, int]
    n_gaps: int
    gap_s: float
    recorded_s: float
    share: dict[str, float | None]
    time_share: dict[str, float | None]
    emotion: str | None
    median_lag_ms: float | None
    p95_lag_ms: float | None
    first_ts: datetime | None
    last_ts: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """Means over buckets of time with a face; other buckets are omitted.

    start: datetime64[us] (B,), UTC, multiples of the bucket since 1970. seconds: int64 (B,),
    those with a face. emotions: float64 (B, 8), mean of each smoothed emotion over these, columns
    as `EMOTIONS`, NaN if unknown.
    """

    start: Microseconds
    seconds: Int64
    emotions: Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracks:
    """Tracks, by their first observation in the range.

    broadcast_id, track, n: int64 (T,), with n the observations in the range. first_ts, last_ts:
    datetime64[us] (T,), UTC, of those. emotions: float64 (T, 8), means of the smoothed emotions
    over the track's seconds, NaN if unknown. emotion: the strongest, (T,) of str, "" if unknown.
    """

    broadcast_id: Int64
    track: Int64
    n: Int64
    first_ts: Microseconds
    last_ts: Microseconds
    emotions: Float64
    emotion: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Newest:
    """The state of the channel's newest broadcast.

    n_observations, n_tracks, segments: of that broadcast. ts, n_faces, emotion: of the newest
    frame with a face, the strongest mean of its smoothed emotions. lag_ms: of the last analysed
    segment. recorded_until: the end of the newest segment, analysed or not.
    """

    broadcast_id: int
    status: str
    started_at: datetime
    segments: dict[str, int]
    n_observations: int
    n_tracks: int
    recorded_until: datetime | None
    ts: datetime | None
    n_faces: int
    emotion: str | None
    lag_ms: int | None
