"""The moments that a report names, and how a track's emotion changes over time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from db.models import EMOTIONS, NO_AD, TRACKS_PER_BROADCAST
from db.reading.answers import Int64, Microseconds
from db.reading.queries import channel_id

_RANGE: Final = f"channel_id = :channel AND ts >= :since AND ts < :until AND {NO_AD}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When an emotion was strongest. ts: aware UTC. value: its smoothed probability then."""

    emotion: str
    ts: datetime
    track: int
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackMoods:
    """The strongest emotion of tracks, over buckets of time that hold something.

    track_id: int64 (M,), unique among all broadcasts. start: datetime64[us] (M,), UTC. emotion:
    (M,) of str. Ordered by track, then start.
    """

    track_id: Int64
    start: Microseconds
    emotion: NDArray[np.str_]


# One pass: the greatest array is that with the greatest first element.
_STRONGEST = text(
    "SELECT "
    + ", ".join(
        f"max(ARRAY[smoothed_{name}, extract(epoch FROM ts),"
        f" track_id % {TRACKS_PER_BROADCAST}]::float8[]) FILTER (WHERE smoothed_{name} IS NOT NULL)"
        for name in EMOTIONS
    )
    + f" FROM observations o WHERE {_RANGE}"
)


def strongest_moments(
    connection: Connection, slug: str, since: datetime, until: datetime
) -> list[Moment]:
    """Return when each emotion was strongest in [since, until), the strongest emotion first.

    since, until: aware. Emotions that were never seen there are left out.
    """
    span = {"channel": channel_id(connection, slug), "since": since, "until": until}
    row = connection.execute(_STRONGEST, span).one()
    found = [
        Moment(
            emotion=name,
            ts=datetime.fromtimestamp(best[1], UTC),
            track=int(best[2]),
            value=float(best[0]),
        )
        for name, best in zip(EMOTIONS, row, strict=True)
        if best is not None
    ]
    return sorted(found, key=lambda moment: -moment.value)


_MOODS = text(
    "SELECT track_id, extract(epoch FROM date_bin(:bucket, ts, TIMESTAMPTZ '1970-01-01 00:00+00'))"
    " * 1000000 AS bucket, "
    + ", ".join(f"avg(smoothed_{name})" for name in EMOTIONS)
    + f" FROM observations o WHERE {_RANGE} AND track_id = ANY(:tracks) GROUP BY 1, 2 ORDER BY 1, 2"
)


def track_moods(
    connection: Connection,
    slug: str,
    since: datetime,
    until: datetime,
    *,
    track_ids: Int64,
    bucket_s: float,
) -> TrackMoods:
    """Return the strongest emotion of these tracks in each bucket of [since, until).

    Raise ValueError unless `bucket_s` is positive.
    """
    if not bucket_s > 0:
        raise ValueError(f"bucket_s must be positive, not {bucket_s}")
    rows = connection.execute(
        _MOODS,
        {
            "channel": channel_id(connection, slug),
            "since": since,
            "until": until,
            "bucket": timedelta(seconds=bucket_s),
            "tracks": track_ids.tolist(),
        },
    ).all()
    means = np.array(
        [[-1.0 if cell is None else cell for cell in row[2:]] for row in rows], dtype=np.float64
    ).reshape(len(rows), len(EMOTIONS))
    return TrackMoods(
        track_id=np.array([row[0] for row in rows], dtype=np.int64),
        start=np.array([int(row[1]) for row in rows], dtype="datetime64[us]"),
        emotion=np.array(EMOTIONS)[means.argmax(axis=1)],
    )
