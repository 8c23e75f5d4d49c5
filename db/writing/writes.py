"""Writes of the history. Each function takes a connection; the caller commits.

The exception is `replace_segment`, which runs its own transaction. It is idempotent.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, ScalarSelect, case, func, select, true, update
from sqlalchemy.dialects.postgresql import insert

from db.tables.shows import STATUSES_OF_BROADCAST, Broadcast, Channel, Segment
from db.writing.covering import fill_gaps, parts_of, put_gap, uncovered
from db.writing.replacement import segment_values
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts

__all__ = [
    "ObservationRows",
    "OpenBroadcast",
    "SegmentRow",
    "StoredCounts",
    "close_broadcast",
    "ensure_channel",
    "ensure_partition",
    "extend_broadcast",
    "fail_segment",
    "find_open_broadcast",
    "interrupt_broadcast",
    "open_broadcast",
    "record_gap",
    "record_lag",
    "record_segment",
    "reopen_broadcast",
    "replace_segment",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBroadcast:
    """A live broadcast, and the state to continue it.

    next_sequence: of its next segment, from 0. recorded_until: end of its last segment, if any.
    """

    id: int
    started_at: datetime
    planned_end: datetime | None
    source_id: str | None
    title: str | None
    flow_run_id: str | None
    next_sequence: int
    recorded_until: datetime | None


def ensure_channel(connection: Connection, slug: str, url: str) -> int:
    """Return the channel's id; create it if necessary, and update its URL."""
    found: int | None = connection.scalar(
        select(Channel.id).where(Channel.slug == slug, Channel.url == url)
    )
    if found is not None:  # the usual case, without a lock or a new sequence number
        return found
    statement = insert(Channel).values(slug=slug, url=url)
    made: int = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Channel.slug], set_={"url": statement.excluded.url}
        ).returning(Channel.id)
    ).scalar_one()
    return made


def open_broadcast(
    connection: Connection,
    *,
    channel_id: int,
    started_at: datetime,
    planned_end: datetime | None = None,
    source_id: str | None = None,
    title: str | None = None,
    flow_run_id: str | None = None,
    status: str = "live",
) -> int:
    """Return the id of the channel's broadcast with this start, created or reopened.

    A recorded file is opened as 'interrupted' and closed as 'completed', so that it never
    looks like a show on air.
    """
    _require_status(status)
    values = {
        "planned_end": planned_end,
        "source_id": source_id,
        "title": title,
        "flow_run_id": flow_run_id,
        "status": status,
    }
    key = (Broadcast.channel_id == channel_id, Broadcast.started_at == started_at)
    found: int | None = connection.scalar(select(Broadcast.id).where(*key))
    if found is not None:
        again = values | {"ended_at": None}
        connection.execute(update(Broadcast).where(*key).values(**again))
        return found
    statement = insert(Broadcast).values(channel_id=channel_id, started_at=started_at, **values)
    made: int = connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Broadcast.channel_id, Broadcast.started_at],
            set_=values | {"ended_at": None},
        ).returning(Broadcast.id)
    ).scalar_one()
    return made


def find_open_broadcast(connection: Connection, channel_id: int) -> OpenBroadcast | None:
    """Return the channel's newest broadcast with status 'live', if there is one."""
    last = (
        select(func.max(Segment.sequence), func.max(Segment.ended_at))
        .where(Segment.broadcast_id == Broadcast.id)
        .lateral()
    )
    sequence, recorded_until = last.c
    row = connection.execute(
        select(
            Broadcast.id,
            Broadcast.started_at,
            Broadcast.planned_end,
            Broadcast.source_id,
            Broadcast.title,
            Broadcast.flow_run_id,
            func.coalesce(sequence + 1, 0),
            recorded_until,
        )
        .join(last, true())
        .where(Broadcast.channel_id == channel_id, Broadcast.status == "live")
        .order_by(Broadcast.started_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return OpenBroadcast(
        id=row[0],
        started_at=row[1],
        planned_end=row[2],
        source_id=row[3],
        title=row[4],
        flow_run_id=row[5],
        next_sequence=row[6],
        recorded_until=row[7],
    )


def reopen_broadcast(
    connection: Connection,
    *,
    channel_id: int,
    flow_run_id: str,
    source_id: str | None,
    now: datetime,
) -> None:
    """Set the broadcast that a run left to live again, if it is its channel's newest.

    Completed broadcasts, and those past their end or of another source, are not changed.
    """
    newest = (
        select(Broadcast.id)
        .where(Broadcast.channel_id == channel_id)
        .order_by(Broadcast.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    connection.execute(
        update(Broadcast)
        .where(
            Broadcast.id == newest,
            Broadcast.flow_run_id == flow_run_id,
            Broadcast.source_id.is_not_distinct_from(source_id),
            Broadcast.status != "completed",
            Broadcast.planned_end > now,
        )
        .values(status="live", ended_at=None)
    )


def close_broadcast(
    connection: Connection, broadcast_id: int, *, ended_at: datetime, status: str
) -> None:
    """Record the end and the status of a broadcast: completed, cancelled, failed, interrupted."""
    _require_status(status)
    connection.execute(
        update(Broadcast)
        .where(Broadcast.id == broadcast_id)
        .values(ended_at=ended_at, status=status)
    )


def interrupt_broadcast(
    connection: Connection, broadcast_id: int, *, status: str = "interrupted"
) -> None:
    """Close the broadcast of a dead watcher at the end of its last segment."""
    _require_status(status)
    end = func.greatest(Broadcast.started_at, _end_of_last(broadcast_id))
    connection.execute(
        update(Broadcast).where(Broadcast.id == broadcast_id).values(ended_at=end, status=status)
    )


def extend_broadcast(connection: Connection, broadcast_id: int) -> None:
    """Have a broadcast that was closed end with its last segment at the earliest; idempotent."""
    is_closed = (Broadcast.id == broadcast_id) & (Broadcast.status != "live")
    end = func.greatest(Broadcast.ended_at, _end_of_last(broadcast_id))
    connection.execute(update(Broadcast).where(is_closed).values(ended_at=end))


def _end_of_last(broadcast_id: int) -> ScalarSelect[datetime]:
    ends = select(func.max(Segment.ended_at)).where(Segment.broadcast_id == broadcast_id)
    return ends.scalar_subquery()


def record_segment(connection: Connection, segment: SegmentRow) -> None:
    """Record that a segment is on disk; an analysed one is not changed.

    Parts covered by other segments, as of another machine, are omitted, so no second is stored
    twice; stored parts fill gaps.
    """
    for part in parts_of(connection, segment):
        values = segment_values(replace(part, status="recorded", error=None))
        statement = insert(Segment).values(**values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[Segment.channel_id, Segment.started_at],
                set_={name: statement.excluded[name] for name in values},
                where=(Segment.status != "analysed")
                | (Segment.broadcast_id != statement.excluded.broadcast_id),
            )
        )
        fill_gaps(
            connection,
            channel_id=part.channel_id,
            broadcast_id=part.broadcast_id,
            start=part.started_at,
            end=part.ended_at,
        )


def fail_segment(connection: Connection, segment: SegmentRow, error: str) -> None:
    """Record why the analysis of a segment failed; results of an earlier analysis are kept."""
    values = segment_values(replace(segment, status="failed", error=error))
    statement = insert(Segment).values(**values)
    stands = (Segment.status == "analysed") & (
        Segment.broadcast_id == statement.excluded.broadcast_id
    )
    kept = {"error", "channel_id", "started_at"}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Segment.channel_id, Segment.started_at],
            set_={
                name: statement.excluded[name]
                if name in kept
                else case((stands, Segment.__table__.c[name]), else_=statement.excluded[name])
                for name in values
            },
        )
    )


def record_lag(connection: Connection, segment: SegmentRow, *, lag_ms: int) -> None:
    """Record the time from the end of a segment's file to the commit of its rows."""
    connection.execute(
        update(Segment)
        .where(Segment.channel_id == segment.channel_id, Segment.started_at == segment.started_at)
        .values(lag_ms=lag_ms)
    )


def record_gap(
    connection: Connection,
    *,
    channel_id: int,
    broadcast_id: int,
    started_at: datetime,
    ended_at: datetime,
    why: str,
) -> None:
    """Record a gap, except where there are segments; idempotent.

    A gap with the same start is replaced.
    """
    for span in uncovered(connection, channel_id, started_at, ended_at):
        put_gap(connection, channel=channel_id, broadcast=broadcast_id, span=span, why=why)


def ensure_partition(connection: Connection, at: datetime) -> str:
    """Create the partition of `observations` for the month of `at` if missing; return its name."""
    name: str = connection.scalars(select(func.observations_partition(at))).one()
    return name


def _require_status(status: str) -> None:
    if status not in STATUSES_OF_BROADCAST:
        raise ValueError(f"status must be one of {', '.join(STATUSES_OF_BROADCAST)}, not {status}")
