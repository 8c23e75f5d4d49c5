"""The transaction that stores a segment: it replaces exactly that segment's rows.

In order: lock the channel, upsert the segment, delete its half-open range of time, upsert its
tracks, write its observations and shots, correct the ends of tracks that lost observations,
recompute the touched seconds from raw rows and the minutes from their seconds, except those whose
raw rows were deleted. It is idempotent, and independent of the order of segments. The lock
serialises concurrent writers: two that share a minute or a track would each compute it without the
other's rows.
"""

import io
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import psycopg2
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import BigInteger, DateTime, Integer

from db.errors import DatabaseUnreachable, UnknownChannel
from db.tables.shows import TRACKS_PER_BROADCAST, Segment
from db.writing.copying import COPY, encode, months, partition_name, track_ids
from db.writing.covering import GAP_THERE, fill_gaps
from db.writing.means import (
    INCOMPLETE_MINUTES,
    INCOMPLETE_SECONDS,
    RECOMPUTE_MINUTES,
    RECOMPUTE_SECONDS,
    span_of,
)
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts, to_microseconds

LOCK_TIMEOUT: Final = "10s"

SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :timeout, true)")

# Blocks other writers, but not the look-ups of foreign keys.
_LOCK_CHANNEL = text("SELECT id FROM channels WHERE id = :channel FOR NO KEY UPDATE")

# A separate statement, because the one that waited for the lock would see an older snapshot. No
# partition is reported missing if an extension partitions the table. Minutes and seconds whose
# count differs from their rows are incomplete: their raw rows were deleted by retention.
_FACTS = text(
    "SELECT (SELECT channel_id FROM broadcasts WHERE id = :broadcast),"
    " (SELECT min(started_at) FROM segments WHERE broadcast_id = :broadcast"
    "  AND started_at > :start AND started_at < :end),"
    " ARRAY(SELECT n FROM unnest(CAST(:partitions AS text[])) n WHERE to_regclass(n) IS NULL"
    "  AND EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = 'observations'::regclass)),"
    f" ARRAY({INCOMPLETE_MINUTES}), ARRAY({INCOMPLETE_SECONDS}), {GAP_THERE}"
)

# As text, because SQLAlchemy does not cache upserts, and compiling one takes 5 ms.
_SEGMENT: Final = tuple(
    name
    for name in Segment.__table__.columns.keys()  # noqa: SIM118 - it has no __iter__ of names
    if name not in ("object_key", "size_bytes", "sha256")  # written by the uploader
)
_STAYS: Final = ("lag_ms", "path", "machine")
"""Columns that None does not overwrite, for a re-analysis, also from a copy in the object store."""
_UPSERT_SEGMENT = text(
    f"INSERT INTO segments ({', '.join(_SEGMENT)}) VALUES (:{', :'.join(_SEGMENT)})"
    " ON CONFLICT (channel_id, started_at) DO UPDATE SET "
    + ", ".join(
        f"{name} = coalesce(excluded.{name}, segments.{name})"
        if name in _STAYS
        else f"{name} = excluded.{name}"
        for name in _SEGMENT
    )
).bindparams(
    bindparam("tracker_state", type_=JSONB(none_as_null=True)),
    bindparam("frames_us", type_=ARRAY(Integer)),
)

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

# Only ends inside the range can have changed, and the next observation is near: it is found with
# the key (channel, ts, track) in a few rows, without an index on the track.
_CORRECT_TRACKS = text(
    "UPDATE face_tracks t SET"
    " first_ts = CASE WHEN t.first_ts < :start THEN t.first_ts ELSE coalesce((SELECT o.ts"
    "  FROM observations o WHERE o.channel_id = :channel AND o.track_id = t.id"
    "  AND o.ts >= :start AND o.ts <= t.last_ts ORDER BY o.ts LIMIT 1), t.last_ts) END,"
    " last_ts = CASE WHEN t.last_ts >= :end THEN t.last_ts ELSE coalesce((SELECT o.ts"
    "  FROM observations o WHERE o.channel_id = :channel AND o.track_id = t.id"
    "  AND o.ts < :end AND o.ts >= t.first_ts ORDER BY o.ts DESC LIMIT 1), t.first_ts) END"
    " WHERE t.id = ANY(:ids) AND (t.first_ts >= :start OR t.last_ts < :end)"
).bindparams(bindparam("ids", type_=ARRAY(BigInteger)))

_DELETE_SHOTS = text(
    "DELETE FROM shots WHERE channel_id = :channel AND started_at >= :start AND started_at < :end"
)

_INSERT_SHOTS = text(
    "INSERT INTO shots (channel_id, started_at, broadcast_id, seen_before)"
    " SELECT :channel, at, :broadcast, seen_before FROM unnest(:shots, :befores)"
    " AS t (at, seen_before) ON CONFLICT (channel_id, started_at) DO NOTHING"
).bindparams(
    bindparam("shots", type_=ARRAY(DateTime(timezone=True))),
    bindparam("befores", type_=ARRAY(DateTime(timezone=True))),
)

# Bounds are rounded outwards to whole hours, so the row changes about once an hour.
_UPDATE_BROADCAST = text(
    "UPDATE broadcasts SET stored_at = now(),"
    " observed_from = least(observed_from, date_bin('1 hour', :start, '2000-01-01+00')),"
    " observed_until = greatest(observed_until,"
    "  date_bin('1 hour', :end, '2000-01-01+00') + interval '1 hour')"
    " WHERE id = :broadcast AND (stored_at < now() - interval '1 hour' OR observed_from IS NULL"
    "  OR observed_from > :start OR observed_until < :end)"
).bindparams(
    bindparam("start", type_=DateTime(timezone=True)),
    bindparam("end", type_=DateTime(timezone=True)),
)


class PartitionMissing(Exception):
    """The partition for a month of these observations does not exist yet."""


def segment_values(segment: SegmentRow) -> dict[str, Any]:
    """Return the values of `segments` for this row, by column."""
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
        "frames_us": segment.frames_us,
    }


def replace_rows(
    connection: Connection, segment: SegmentRow, observations: ObservationRows
) -> StoredCounts:
    """Replace the rows of a segment, in the connection's transaction.

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
    owner, next_start, missing, minutes, seconds, gap_there = connection.execute(
        _FACTS,
        span | {"partitions": partitions} | span_of(segment.started_at, segment.ended_at),
    ).one()
    if owner != segment.channel_id:
        raise ValueError(f"broadcast {segment.broadcast_id} is not of this channel")
    if missing:
        raise PartitionMissing
    # A rounded duration may overlap the next segment, whose rows must not be replaced.
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
        connection.execute(_CORRECT_TRACKS, span | {"ids": sorted(gone)})
    connection.execute(_DELETE_SHOTS, span)
    if len(rows.shots):
        befores = [None if np.isnat(at) else _aware(at) for at in rows.seen_before]
        shots = [_aware(at) for at in rows.shots]
        connection.execute(_INSERT_SHOTS, span | {"shots": shots, "befores": befores})
    connection.execute(_UPDATE_BROADCAST, span)
    touched = span | span_of(segment.started_at, end)
    connection.execute(RECOMPUTE_SECONDS, touched | {"kept": seconds})
    connection.execute(RECOMPUTE_MINUTES, touched | {"kept": minutes})
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
            "ids": present.tolist(),  # sorted, against deadlocks
            "firsts": [moment.replace(tzinfo=UTC) for moment in first.tolist()],
            "lasts": [moment.replace(tzinfo=UTC) for moment in last.tolist()],
        },
    )


def _delete_stale(connection: Connection, span: dict[str, Any], ids: list[int]) -> int:
    if not ids:
        return 0
    return connection.execute(_DELETE_STALE_TRACKS, span | {"ids": ids}).rowcount


def _aware(moment: np.datetime64) -> datetime:
    at: datetime = moment.astype("datetime64[us]").item()
    return at.replace(tzinfo=UTC)


def _copy(connection: Connection, payload: bytes) -> None:
    """Send the rows with COPY; its errors are raised as DBAPIError, like all others."""
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
