"""Queries for reports: peaks of emotions, cuts, and the emotions of tracks over time."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from db.reading.answers import Int64, Microseconds
from db.reading.queries import MEANS, OBSERVED, TRACK_SECONDS, require_channel, whole_seconds
from db.tables.shows import EMOTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Peak of an emotion. ts: aware UTC. value: its smoothed probability."""

    emotion: str
    ts: datetime
    track: int
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackMoods:
    """The strongest emotion of tracks, over buckets of time with observations.

    track_id: int64 (M,), unique among all broadcasts. start: datetime64[us] (M,), UTC. emotion:
    (M,) of str. Ordered by track, then start.
    """

    track_id: Int64
    start: Microseconds
    emotion: NDArray[np.str_]


# In one pass: arrays are ordered by their first element.
_STRONGEST = text(
    "SELECT "
    + ", ".join(
        f"max(ARRAY[{name}, extract(epoch FROM ts), track]::float8[])"
        f" FILTER (WHERE {name} IS NOT NULL)"
        for name in EMOTIONS
    )
    + f" FROM {OBSERVED}"
)


def strongest_moments(
    connection: Connection, slug: str, since: datetime, until: datetime
) -> list[Moment]:
    """Return the peak of each emotion in [since, until), the strongest emotion first.

    since, until: aware. Emotions without values are omitted.
    """
    require_channel(connection, slug)
    span = {"slug": slug, "since": since, "until": until}
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


# Starts of shots at the start of a show or after a gap are not cuts.
_CUTS = text(
    "SELECT started_at FROM (SELECT started_at, is_ad,"
    "  lag(ended_at) OVER (PARTITION BY broadcast_id ORDER BY shot) AS last_ended_at"
    "  FROM show_shots WHERE channel = :slug AND broadcast_id = ANY(:shows)) s"
    " WHERE last_ended_at = started_at AND NOT is_ad"
    " AND started_at >= :since AND started_at < :until ORDER BY 1"
)


def cuts(
    connection: Connection,
    slug: str,
    since: datetime,
    until: datetime,
    *,
    show_ids: Collection[int],
) -> list[datetime]:
    """Return the times of cuts of these shows in [since, until), without advertisements."""
    span = {"slug": slug, "since": since, "until": until, "shows": sorted(show_ids)}
    return list(connection.scalars(_CUTS, span))


_MOODS = text(
    "SELECT track_id,"
    " extract(epoch FROM date_bin(:bucket, second, TIMESTAMPTZ '1970-01-01 00:00+00'))"
    f" * 1000000 AS bucket, {MEANS} FROM"
    f" ({TRACK_SECONDS} AND o.track_id = ANY(:tracks) GROUP BY 1, 2) s"
    " GROUP BY 1, 2 ORDER BY 1, 2"
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
    """Return the strongest mean over time of these tracks in each bucket of [since, until).

    Raise ValueError unless `bucket_s` is whole seconds.
    """
    bucket = whole_seconds(bucket_s)
    require_channel(connection, slug)
    rows = connection.execute(
        _MOODS,
        {
            "slug": slug,
            "since": since,
            "until": until,
            "bucket": bucket,
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
