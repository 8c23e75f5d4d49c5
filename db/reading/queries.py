"""Queries of the application; analysts have the views.

Ranges of time are half-open and aware; None means unbounded. An empty range gives
empty arrays, and None for unknown values. An unknown channel raises UnknownChannel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select, text
from sqlalchemy.types import DateTime

from db.errors import UnknownChannel
from db.reading.answers import (
    ChannelRow,
    Float64,
    Microseconds,
    Summary,
    Timeline,
    Tracks,
)
from db.tables.shows import EMOTIONS, TRACKS_PER_BROADCAST, Broadcast, Channel, Segment
from db.writing.rows import BroadcastRow, SegmentRow

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)


def channels(connection: Connection) -> list[ChannelRow]:
    """Return all channels that have a show, by slug."""
    rows = connection.execute(
        text(
            "SELECT channel, count(*), max(started_at) FROM shows GROUP BY channel ORDER BY channel"
        )
    )
    return [ChannelRow(slug=row[0], n_broadcasts=row[1], last_started_at=row[2]) for row in rows]


def channel_id(connection: Connection, slug: str) -> int:
    """Return the channel's id; raise UnknownChannel, which lists the existing ones."""
    found: int | None = connection.scalar(select(Channel.id).where(Channel.slug == slug))
    if found is None:
        require_channel(connection, slug)
        raise UnknownChannel(f"channel '{slug}' has no show yet")
    return found


def require_channel(connection: Connection, slug: str) -> None:
    """Raise UnknownChannel, which lists the existing ones, unless the channel has a show."""
    if connection.scalar(text("SELECT 1 FROM shows WHERE channel = :slug LIMIT 1"), {"slug": slug}):
        return
    statement = text("SELECT DISTINCT channel FROM shows ORDER BY channel LIMIT 11")
    known = connection.scalars(statement).all()
    there = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    raise UnknownChannel(
        f"there is no channel '{slug}'"
        + (f": there are {there}" if known else ": nothing has been watched or analysed yet")
    )


def broadcast_of_run(connection: Connection, flow_run_id: str) -> BroadcastRow | None:
    """Return the newest broadcast of a flow run, if any."""
    row = connection.execute(
        select(Broadcast.id, Broadcast.started_at, Broadcast.planned_end, Broadcast.status)
        .where(Broadcast.flow_run_id == flow_run_id)
        .order_by(Broadcast.started_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return BroadcastRow(id=row[0], started_at=row[1], planned_end=row[2], status=row[3])


def segments_of(connection: Connection, broadcast_id: int) -> list[SegmentRow]:
    """Return the segments of a broadcast, in order of time."""
    names = [each.name for each in fields(SegmentRow)]
    columns = [Segment.__table__.c[name] for name in names]
    rows = connection.execute(
        select(*columns).where(Segment.broadcast_id == broadcast_id).order_by(Segment.started_at)
    )
    return [SegmentRow(**row._mapping) for row in rows]


def tracker_state_before(
    connection: Connection, broadcast_id: int, started_at: datetime
) -> dict[str, Any] | None:
    """Return the tracker's state after the last analysed segment that starts before this time."""
    found: dict[str, Any] | None = connection.scalar(
        select(Segment.tracker_state)
        .where(
            Segment.broadcast_id == broadcast_id,
            Segment.started_at < started_at,
            Segment.status == "analysed",
            Segment.tracker_state.is_not(None),
        )
        .order_by(Segment.started_at.desc())
        .limit(1)
    )
    return found


MEANS: Final = ", ".join(f"avg({emotion})" for emotion in EMOTIONS)

OBSERVED: Final = (
    "emotion_history o WHERE o.channel = :slug AND o.ts >= :since AND o.ts < :until"
    " AND NOT EXISTS (SELECT FROM advertisements a WHERE a.channel = :slug"
    " AND a.started_at <= o.ts AND a.ended_at > o.ts)"
)
"""Faces in [:since, :until) of the channel :slug. Reads only views, as analysts can."""

_OBSERVATIONS = text(
    f"SELECT count(*), count(DISTINCT o.track_id), min(o.ts), max(o.ts) FROM {OBSERVED}"
)

# A second counts once, independent of the number of faces and frames.
_SECONDS: Final = (
    "emotion_seconds o WHERE o.channel = :slug AND o.second < :until"
    " AND o.second >= date_trunc('second', CAST(:since AS timestamptz))"
)

_MOOD = text(
    f"SELECT count(*), {MEANS}, "
    + ", ".join(f"count(*) FILTER (WHERE o.emotion = '{emotion}')" for emotion in EMOTIONS)
    + f" FROM {_SECONDS}"
)

_RECORDED: Final = "channel = :slug AND started_at < :until AND ended_at > :since"

_SEGMENTS = text(
    "SELECT status, count(*), sum(duration_s), sum(frames) FILTER (WHERE status = 'analysed')"
    f" FROM show_segments WHERE {_RECORDED} GROUP BY status"
)

_LAGS = text(
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag_ms),"
    f" percentile_cont(0.95) WITHIN GROUP (ORDER BY lag_ms) FROM show_segments WHERE {_RECORDED}"
)

_GAP_ROWS = text(
    "SELECT started_at, ended_at, why FROM show_gaps"
    " WHERE channel = :slug AND started_at < :until AND ended_at >= :since"
    " ORDER BY started_at"
)

_GAPS = text(
    "SELECT count(*), coalesce(extract(epoch FROM"
    " sum(least(ended_at, :until) - greatest(started_at, :since))), 0)::float8 FROM show_gaps"
    " WHERE channel = :slug AND started_at < :until AND ended_at >= :since"
).bindparams(
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)


def summary(
    connection: Connection, slug: str, since: datetime | None = None, until: datetime | None = None
) -> Summary:
    """Return a summary of a channel in [since, until)."""
    span = _span(connection, slug, since, until)
    seen = connection.execute(_OBSERVATIONS, span).one()
    seconds, *values = connection.execute(_MOOD, span).one()
    by_status = {row[0]: row for row in connection.execute(_SEGMENTS, span)}
    median, p95 = connection.execute(_LAGS, span).one()
    n_gaps, gap_s = connection.execute(_GAPS, span).one()
    share = dict(zip(EMOTIONS, values[: len(EMOTIONS)], strict=True))
    strongest_s = zip(EMOTIONS, values[len(EMOTIONS) :], strict=True)
    return Summary(
        channel=slug,
        n_observations=seen[0],
        n_tracks=seen[1],
        n_frames=sum(row[3] or 0 for row in by_status.values()),
        segments={status: row[1] for status, row in sorted(by_status.items())},
        n_gaps=n_gaps,
        gap_s=gap_s,
        recorded_s=sum(row[2] for row in by_status.values()),
        share=share,
        time_share={name: None if share[name] is None else n / seconds for name, n in strongest_s},
        emotion=strongest(share),
        median_lag_ms=median,
        p95_lag_ms=p95,
        first_ts=seen[2],
        last_ts=seen[3],
    )


_TIMELINE = text(
    "SELECT extract(epoch FROM date_bin(:bucket, second, TIMESTAMPTZ '1970-01-01 00:00:00+00'))"
    f" * 1000000 AS bucket, count(*), {MEANS} FROM {_SECONDS} GROUP BY 1 ORDER BY 1"
)


def whole_seconds(bucket_s: float) -> timedelta:
    """Return a bucket's length; raise ValueError unless it is whole seconds, at least 1."""
    if not (bucket_s >= 1 and float(bucket_s).is_integer()):
        raise ValueError(f"bucket_s must be whole seconds, at least 1, not {bucket_s}")
    return timedelta(seconds=bucket_s)


def timeline(
    connection: Connection,
    slug: str,
    since: datetime | None = None,
    until: datetime | None = None,
    bucket_s: float = 60.0,
) -> Timeline:
    """Return the emotions of a channel in [since, until), by buckets of whole seconds.

    Raise ValueError unless `bucket_s` is a whole number.
    """
    bucket = whole_seconds(bucket_s)
    span = _span(connection, slug, since, until)
    rows = connection.execute(_TIMELINE, span | {"bucket": bucket}).all()
    return Timeline(
        start=np.array([int(row[0]) for row in rows], dtype="datetime64[us]"),
        seconds=np.array([row[1] for row in rows], dtype=np.int64),
        emotions=_matrix(rows, 2),
    )


TRACK_SECONDS: Final = (
    "SELECT o.track_id, date_trunc('second', o.ts, 'UTC') AS second, count(*) AS n,"
    " min(o.ts) AS first_ts, max(o.ts) AS last_ts, "
    + ", ".join(f"avg(o.{emotion}) AS {emotion}" for emotion in EMOTIONS)
    + f" FROM {OBSERVED}"
)
"""Seconds of tracks; add GROUP BY 1, 2. Means over these are means over time."""

_TRACKS = text(
    f"SELECT track_id / {TRACKS_PER_BROADCAST}, track_id % {TRACKS_PER_BROADCAST},"
    " sum(n)::bigint, min(first_ts) AS first_ts, max(last_ts), "
    f"{MEANS} FROM ({TRACK_SECONDS} GROUP BY 1, 2) s GROUP BY track_id ORDER BY first_ts, track_id"
)


def tracks(
    connection: Connection, slug: str, since: datetime | None = None, until: datetime | None = None
) -> Tracks:
    """Return the tracks of a channel with observations in [since, until)."""
    rows = connection.execute(_TRACKS, _span(connection, slug, since, until)).all()
    return Tracks(
        broadcast_id=np.array([row[0] for row in rows], dtype=np.int64),
        track=np.array([row[1] for row in rows], dtype=np.int64),
        n=np.array([row[2] for row in rows], dtype=np.int64),
        first_ts=_times(row[3] for row in rows),
        last_ts=_times(row[4] for row in rows),
        emotions=_matrix(rows, 5),
        emotion=np.array(
            [strongest(dict(zip(EMOTIONS, row[5:], strict=True))) or "" for row in rows],
            dtype=np.str_,
        ),
    )


def gaps(
    connection: Connection, slug: str, since: datetime | None = None, until: datetime | None = None
) -> list[tuple[datetime, datetime, str]]:
    """Return the gaps that overlap [since, until), in order: start, end, reason."""
    rows = connection.execute(_GAP_ROWS, _span(connection, slug, since, until))
    return [(row[0], row[1], row[2]) for row in rows]


def strongest(share: dict[str, float | None]) -> str | None:
    """Return the emotion with the highest value, the first of equals; None without values."""
    known = {emotion: value for emotion, value in share.items() if value is not None}
    return max(known, key=lambda emotion: known[emotion]) if known else None


def _span(
    connection: Connection, slug: str, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    span = {"since": since or BEGINNING, "until": until or END}
    for name, moment in span.items():
        if moment.tzinfo is None:
            raise ValueError(f"{name} must be aware, not {moment!r}")
    require_channel(connection, slug)
    return {"slug": slug, **span}


def _times(moments: Iterable[datetime]) -> Microseconds:
    naive = [moment.astimezone(UTC).replace(tzinfo=None) for moment in moments]
    return np.array(naive, dtype="datetime64[us]")


def _matrix(rows: Sequence[Row[Any]], first: int) -> Float64:
    values = [[np.nan if cell is None else cell for cell in row[first:]] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(EMOTIONS))
