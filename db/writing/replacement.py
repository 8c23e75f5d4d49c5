"""The transaction that stores a segment: it replaces exactly that segment's rows.

In order: lock the channel, upsert the segment, delete its half-open range of time, upsert its
tracks, write its observations, mend the ends of the tracks that lost some, recompute the touched
minutes from raw rows, except those whose raw rows are gone. Done twice is as done once, in either
order with its neighbours, and with two writers at once: the lock makes them take turns, since two
that share a minute or a track would each compute it without the other's rows.
"""

import io
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import psycopg2
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import BigInteger, DateTime

from db.errors import DatabaseUnreachable, UnknownChannel
from db.models import EMOTIONS, NO_AD, TRACKS_PER_BROADCAST, Segment
from db.writing.copying import COPY, encode, months, partition_name, track_ids
from db.writing.covering import GAP_THERE, fill_gaps
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts, to_microseconds

LOCK_TIMEOUT: Final = "10s"

SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :timeout, true)")

# Against other writers, not against the key look-ups of foreign keys.
_LOCK_CHANNEL = text("SELECT id FROM channels WHERE id = :channel FOR NO KEY UPDATE")

# A statement of its own: one that waited for the lock would still see the time before it. Where
# an extension cuts the table up in its own way, no partition of ours is ever missing. Then the
# minutes that count other rows than there are: theirs were dropped, for their age.
_FACTS = text(
    "SELECT (SELECT channel_id FROM broadcasts WHERE id = :broadcast),"
    " (SELECT min(started_at) FROM segments WHERE broadcast_id = :broadcast"
    "  AND started_at > :start AND started_at < :end),"
    " ARRAY(SELECT n FROM unnest(CAST(:partitions AS text[])) n WHERE to_regclass(n) IS NULL"
    "  AND EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = 'observations'::regclass)),"
    " ARRAY(SELECT m.minute FROM emotion_minutes m WHERE m.channel_id = :channel"
    "  AND m.minute >= :first_minute AND m.minute < :end_minute AND m.n <> (SELECT count(*)"
    "  FROM observations o WHERE o.channel_id = m.channel_id AND o.ts >= m.minute"
    "  AND o.ts < m.minute + interval '1 minute'"
    f"  AND o.track_id >= m.broadcast_id * {TRACKS_PER_BROADCAST}::bigint"
    f"  AND o.track_id < (m.broadcast_id + 1) * {TRACKS_PER_BROADCAST}::bigint AND {NO_AD})),"
    f" {GAP_THERE}"
)

# As text: SQLAlchemy does not cache its own upserts, and compiling one takes 5 ms each time.
_SEGMENT: Final = tuple(
    name
    for name in Segment.__table__.columns.keys()  # noqa: SIM118 - it has no __iter__ of names
    if name not in ("object_key", "size_bytes", "sha256")  # its uploader's
)
_STAYS: Final = ("lag_ms", "path", "machine")
"""Where it is not said, it stays: a recording is analysed again, or from its copy elsewhere."""
_UPSERT_SEGMENT = text(
    f"INSERT INTO segments ({', '.join(_SEGMENT)}) VALUES (:{', :'.join(_SEGMENT)})"
    " ON CONFLICT (channel_id, started_at) DO UPDATE SET "
    + ", ".join(
        f"{name} = coalesce(excluded.{name}, segments.{name})"
        if name in _STAYS
        else f"{name} = excluded.{name}"
        for name in _SEGMENT
    )
).bindparams(bindparam("tracker_state", type_=JSONB(none_as_null=True)))

_DELETE = text(
    "WITH gone AS (DELETE FROM observations"
    " WHERE channel_id = :channel AND ts >= :start AND ts < :end RETURNING track_id)"
    " SELECT track_id, count(*) FROM gone GROUP BY track_id"
)

_UPSERT_TRACKS = text(
    "INSERT INTO face_tracks (id, broadcast_id, track_no, first_ts, last_ts)"
    f" SELECT id, :broadcast, id % {TRACKS_PER_BROADCAST}, first_ts, last_ts"
    " FROM unnest(:ids, :firsts, :lasts) AS t (id, first_ts, last_ts)"
    " ON CONFLICT (id) DO UPDATE SET first_ts = least(face_tracks.first_ts, excluded.first_ts),"
    " last_ts = greatest(face_tracks.last_ts, excluded.last_ts)"
).bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("firsts", type_=ARRAY(DateTime(timezone=True))),
    bindparam("lasts", type_=ARRAY(DateTime(timezone=True))),
)

_DELETE_STALE_TRACKS = text(
    "DELETE FROM face_tracks WHERE id = ANY(:ids) AND first_ts >= :start AND last_ts < :end"
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

# Only an end that lay in the range can have moved, and the next observation is near: the key
# (channel, ts, track) finds it by walking a few rows, so no index on the track is needed.
_MEND_TRACKS = text(
    "UPDATE face_tracks t SET"
    " first_ts = CASE WHEN t.first_ts < :start THEN t.first_ts ELSE coalesce((SELECT o.ts"
    "  FROM observations o WHERE o.channel_id = :channel AND o.track_id = t.id"
    "  AND o.ts >= :start AND o.ts <= t.last_ts ORDER BY o.ts LIMIT 1), t.last_ts) END,"
    " last_ts = CASE WHEN t.last_ts >= :end THEN t.last_ts ELSE coalesce((SELECT o.ts"
    "  FROM observations o WHERE o.channel_id = :channel AND o.track_id = t.id"
    "  AND o.ts < :end AND o.ts >= t.first_ts ORDER BY o.ts DESC LIMIT 1), t.first_ts) END"
    " WHERE t.id = ANY(:ids) AND (t.first_ts >= :start OR t.last_ts < :end)"
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

# Means are sums of floating-point numbers, so their order is fixed: the same rows, whenever and
# in whatever order they were written, give the same minute to the last bit.
FRESH_MINUTES: Final = (
    "SELECT channel_id, date_trunc('minute', ts, 'UTC') AS minute,"
    f" (track_id / {TRACKS_PER_BROADCAST})::integer AS broadcast_id,"
    " count(*)::integer AS n, count(DISTINCT track_id)::integer AS tracks, "
    + ", ".join(f"avg(smoothed_{e} ORDER BY ts, track_id)::real AS {e}" for e in EMOTIONS)
    + " FROM observations o WHERE channel_id = :channel"
    f" AND ts >= :first_minute AND ts < :end_minute AND {NO_AD} GROUP BY 1, 2, 3"
)

_COMPUTED = ("n", "tracks", *EMOTIONS)

_RECOMPUTE_MINUTES = text(
    f"WITH fresh AS MATERIALIZED ({FRESH_MINUTES}), written AS ("
    f"INSERT INTO emotion_minutes (channel_id, minute, broadcast_id, {', '.join(_COMPUTED)})"
    " SELECT * FROM fresh WHERE minute <> ALL(:kept)"
    " ON CONFLICT (channel_id, minute, broadcast_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COMPUTED)
    + ") DELETE FROM emotion_minutes WHERE channel_id = :channel"
    " AND minute >= :first_minute AND minute < :end_minute AND minute <> ALL(:kept)"
    " AND (minute, broadcast_id) NOT IN (SELECT minute, broadcast_id FROM fresh)"
).bindparams(bindparam("kept", type_=ARRAY(DateTime(timezone=True))))


class PartitionMissing(Exception):
    """The month of these observations has no partition yet."""


def segment_values(segment: SegmentRow) -> dict[str, Any]:
    """Return the columns of `segments` for this row."""
    return {
        "channel_id": segment.channel_id,
        "started_at": segment.started_at,
        "ended_at": segment.ended_at,
        "broadcast_id": segment.broadcast_id,
        "sequence": segment.sequence,
        "duration_s": segment.duration_s,
        "path": segment.path,
        "offset_s": segment.offset_s,
        "start_is_estimated": segment.start_is_estimated,
        "width_px": segment.width_px,
        "height_px": segment.height_px,
        "status": segment.status,
        "frames_analysed": segment.frames_analysed,
        "analysed_fps": segment.analysed_fps,
        "lag_ms": segment.lag_ms,
        "model": segment.model,
        "tracker_state": segment.tracker_state,
        "error": segment.error,
        "is_ad": segment.is_ad,
        "needs": segment.needs,
        "machine": segment.machine,
    }


def replace_rows(
    connection: Connection, segment: SegmentRow, observations: ObservationRows
) -> StoredCounts:
    """Do it, in the transaction that the connection is in.

    Raise PartitionMissing, UnknownChannel, DBAPIError; ValueError for a broadcast of another
    channel.
    """
    span = {
        "channel": segment.channel_id,
        "broadcast": segment.broadcast_id,
        "start": segment.started_at,
        "end": segment.ended_at,
    }
    connection.execute(SET_LOCK_TIMEOUT, {"timeout": LOCK_TIMEOUT})
    if connection.execute(_LOCK_CHANNEL, span).one_or_none() is None:
        raise UnknownChannel(f"there is no channel with the id {segment.channel_id}")
    partitions = [partition_name(month) for month in months(observations)]
    owner, next_start, missing, kept, gap_there = connection.execute(
        _FACTS,
        span | {"partitions": partitions} | _minutes(segment.started_at, segment.ended_at),
    ).one()
    if owner != segment.channel_id:
        raise ValueError(f"broadcast {segment.broadcast_id} is not of this channel")
    if missing:
        raise PartitionMissing
    # A duration that was rounded up may reach into the next segment, whose rows stay its own.
    span["end"] = end = next_start or segment.ended_at
    rows = observations.within(segment.started_at, end)
    low, high = to_microseconds(segment.started_at), to_microseconds(end)
    inside = int(((observations.ts >= low) & (observations.ts < high)).sum())

    connection.execute(
        _UPSERT_SEGMENT, segment_values(segment) | {"status": "analysed", "error": None}
    )
    if gap_there:
        fill_gaps(
            connection,
            channel_id=segment.channel_id,
            broadcast_id=segment.broadcast_id,
            start=segment.started_at,
            end=segment.ended_at,
        )
    gone: dict[int, int] = {row[0]: row[1] for row in connection.execute(_DELETE, span)}
    ids = track_ids(segment.broadcast_id, rows.track)
    present = np.unique(ids)
    if len(rows):
        _upsert_tracks(connection, span, present, ids, rows)
    stale = _delete_stale(connection, span, sorted(gone.keys() - set(present.tolist())))
    if len(rows):
        _copy(connection, encode(segment.channel_id, segment.broadcast_id, rows))
    if gone:
        connection.execute(_MEND_TRACKS, span | {"ids": sorted(gone)})
    if gone or len(rows):
        minutes = _minutes(segment.started_at, end) | {"kept": kept}
        connection.execute(_RECOMPUTE_MINUTES, span | minutes)
    return StoredCounts(
        observations=len(rows),
        replaced=sum(gone.values()),
        tracks=len(present),
        stale_tracks=stale,
        outside=len(observations) - inside,
        duplicates=inside - len(rows),
    )


def _upsert_tracks(
    connection: Connection,
    span: dict[str, Any],
    present: np.ndarray[Any, np.dtype[np.int64]],
    ids: np.ndarray[Any, np.dtype[np.int64]],
    rows: ObservationRows,
) -> None:
    first = np.array([rows.ts[ids == one][0] for one in present])  # rows are sorted by time
    last = np.array([rows.ts[ids == one][-1] for one in present])
    connection.execute(
        _UPSERT_TRACKS,
        span
        | {
            "ids": present.tolist(),  # in order, so that two writers can't lock each other out
            "firsts": [moment.replace(tzinfo=UTC) for moment in first.tolist()],
            "lasts": [moment.replace(tzinfo=UTC) for moment in last.tolist()],
        },
    )


def _delete_stale(connection: Connection, span: dict[str, Any], ids: list[int]) -> int:
    if not ids:
        return 0
    return connection.execute(_DELETE_STALE_TRACKS, span | {"ids": ids}).rowcount


def _minutes(start: datetime, end: datetime) -> dict[str, datetime]:
    """Return the range of whole minutes that [start, end) touches."""
    first = start.astimezone(UTC).replace(second=0, microsecond=0)
    stop = to_microseconds(end) + np.timedelta64(59_999_999, "us")
    return {
        "first_minute": first,
        "end_minute": stop.astype("datetime64[m]")
        .astype("datetime64[us]")
        .item()
        .replace(tzinfo=UTC),
    }


def _copy(connection: Connection, payload: bytes) -> None:
    """Send the rows by COPY, and give its errors the form that all others have."""
    driver = connection.connection.dbapi_connection
    if driver is None:
        raise DatabaseUnreachable("the connection was lost")
    cursor = driver.cursor()
    try:
        cursor.copy_expert(COPY, io.BytesIO(payload))
    except psycopg2.Error as error:
        lost = bool(driver.closed)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            COPY, None, error, psycopg2.Error, connection_invalidated=lost
        ) from error
    finally:
        cursor.close()
