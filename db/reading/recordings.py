"""Queries of recorded files, for playing and for retention.

A segment's row stays when its file is deleted, and its `path` becomes null; likewise its
`object_key` when the copy in the object store is deleted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Integer, String

from db.reading.queries import channel_id
from db.tables.shows import Gap, Segment

MAX_SEGMENT: Final = timedelta(minutes=10)
"""Maximum length of a segment, which bounds the search for overlapping ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRow:
    """A segment, with the columns for playing it; path: None if its file was deleted.

    machine: the machine with that path. object_key, size_bytes, sha256: of its copy, if any.
    """

    broadcast_id: int
    sequence: int
    started_at: datetime
    duration_s: float
    start_is_estimated: bool
    path: str | None
    offset_s: float
    width_px: int
    height_px: int
    status: str
    is_ad: bool | None
    needs: Sequence[str]
    machine: str | None
    object_key: str | None
    size_bytes: int | None
    sha256: str | None

    @property
    def ended_at(self) -> datetime:
        """Return the end of the range, exclusive."""
        return self.started_at + timedelta(seconds=self.duration_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedBroadcast:
    """A broadcast, with the columns for its recording."""

    id: int
    slug: str
    started_at: datetime
    planned_end: datetime | None
    status: str
    flow_run_id: str | None


_COLUMNS: Final = (
    "broadcast_id, {sequence} AS sequence, started_at, duration_s, start_is_estimated, path,"
    " offset_s, coalesce(width_px, 0) AS width_px, coalesce(height_px, 0) AS height_px, status,"
    " is_ad, coalesce(needs, '{{}}') AS needs, machine, object_key, size_bytes, sha256"
)
_THERE: Final = "(path IS NOT NULL OR object_key IS NOT NULL)"

_RECORDED = text(
    f"SELECT {_COLUMNS.format(sequence='sequence')}"
    " FROM segments WHERE channel_id = :channel AND started_at < :until"
    " AND started_at > :earliest AND ended_at > :since ORDER BY started_at"
)

_LAST = text(
    f"SELECT {_COLUMNS.format(sequence='max(sequence) OVER ()')}"
    " FROM segments WHERE broadcast_id = :broadcast ORDER BY started_at DESC LIMIT 1"
)

_BEFORE = text(
    f"SELECT ended_at FROM segments WHERE channel_id = :channel AND {_THERE}"
    " AND started_at < :at ORDER BY started_at DESC LIMIT 1"
)
_AFTER = text(
    f"SELECT started_at FROM segments WHERE channel_id = :channel AND {_THERE}"
    " AND started_at >= :at ORDER BY started_at LIMIT 1"
)

_BROADCASTS: Final = (
    "SELECT b.id, c.slug, b.started_at, b.planned_end, b.status, b.flow_run_id"
    " FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
)
_BY_ID = text(f"{_BROADCASTS} WHERE b.id = ANY(:ids)").bindparams(
    bindparam("ids", type_=ARRAY(Integer))
)
_NEWEST = text(
    f"{_BROADCASTS} WHERE b.id = coalesce("
    " (SELECT id FROM broadcasts WHERE channel_id = :channel AND status = 'live'"
    "  ORDER BY started_at DESC LIMIT 1),"
    f" (SELECT broadcast_id FROM segments WHERE channel_id = :channel AND {_THERE}"
    "  ORDER BY started_at DESC LIMIT 1))"
)
_LIVE = text(f"{_BROADCASTS} WHERE c.slug = :slug AND b.status = 'live' ORDER BY b.started_at")
_UNSURE = text(
    f"{_BROADCASTS} WHERE c.slug = :slug"
    " AND (b.status = 'live' OR coalesce(b.ended_at, b.started_at) > :since)"
    " ORDER BY b.started_at"
)

# By name, because a broadcast's folder may have been moved.
_NAME: Final = "substring(path FROM '[^/]*$')"

_STATUSES = text(
    f"SELECT {_NAME} AS name, status FROM segments"
    f" WHERE broadcast_id = :broadcast AND {_NAME} = ANY(:names)"
).bindparams(bindparam("names", type_=ARRAY(String)))

_FORGET = text(
    f"UPDATE segments SET path = NULL WHERE broadcast_id = :broadcast AND {_NAME} = ANY(:names)"
).bindparams(bindparam("names", type_=ARRAY(String)))


def recorded(
    connection: Connection, slug: str, since: datetime, until: datetime
) -> list[RecordedRow]:
    """Return the segments of a channel that overlap [since, until), in order.

    Includes segments whose file was deleted. Raises UnknownChannel.
    """
    span = {
        "channel": channel_id(connection, slug),
        "since": since,
        "until": until,
        "earliest": since - MAX_SEGMENT,
    }
    return [RecordedRow(**row._mapping) for row in connection.execute(_RECORDED, span)]


def nearest(
    connection: Connection, slug: str, at: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return the end of the last recording before `at`, and the start of the next one after."""
    where = {"channel": channel_id(connection, slug), "at": at}
    return connection.scalar(_BEFORE, where), connection.scalar(_AFTER, where)


def newest_broadcast(connection: Connection, slug: str) -> RecordedBroadcast | None:
    """Return the channel's newest broadcast that is on air or has files; None without one."""
    where = {"channel": channel_id(connection, slug)}
    row = connection.execute(_NEWEST, where).one_or_none()
    return RecordedBroadcast(**row._mapping) if row else None


def broadcasts(connection: Connection, ids: Collection[int]) -> dict[int, RecordedBroadcast]:
    """Return the existing ones of these broadcasts, by id."""
    rows = connection.execute(_BY_ID, {"ids": sorted(ids)})
    return {row.id: RecordedBroadcast(**row._mapping) for row in rows}


def live_broadcasts(connection: Connection, slug: str) -> list[RecordedBroadcast]:
    """Return the live broadcasts of a channel, oldest first."""
    rows = connection.execute(_LIVE, {"slug": slug})
    return [RecordedBroadcast(**row._mapping) for row in rows]


def unsure(connection: Connection, slug: str, since: datetime) -> list[RecordedBroadcast]:
    """Return the broadcasts of a channel that may have files without rows, oldest first.

    These are the live ones, and those that ended after `since`, which another machine may have
    closed.
    """
    rows = connection.execute(_UNSURE, {"slug": slug, "since": since})
    return [RecordedBroadcast(**row._mapping) for row in rows]


def starts(
    connection: Connection, broadcast_id: int, *, settled: bool = False
) -> frozenset[datetime]:
    """Return the starts of a broadcast's segments.

    settled: only of analysed and failed ones.
    """
    where = Segment.status != "recorded" if settled else true()
    statement = select(Segment.started_at).where(Segment.broadcast_id == broadcast_id, where)
    return frozenset(connection.scalars(statement))


def last_of(connection: Connection, broadcast_id: int) -> RecordedRow | None:
    """Return the last segment of a broadcast, with its highest sequence; None without segments."""
    row = connection.execute(_LAST, {"broadcast": broadcast_id}).one_or_none()
    return RecordedRow(**row._mapping) if row else None


def gap_starts(connection: Connection, broadcast_id: int) -> frozenset[datetime]:
    """Return the starts of a broadcast's gaps."""
    return frozenset(
        connection.scalars(select(Gap.started_at).where(Gap.broadcast_id == broadcast_id))
    )


def statuses(connection: Connection, broadcast_id: int, names: Sequence[str]) -> dict[str, str]:
    """Return the status of these files by name, without files that have no row."""
    where = {"broadcast": broadcast_id, "names": list(names)}
    return {row.name: row.status for row in connection.execute(_STATUSES, where)}


def forget(connection: Connection, broadcast_id: int, names: Sequence[str]) -> int:
    """Record that these files were deleted; return the number of updated rows."""
    where = {"broadcast": broadcast_id, "names": list(names)}
    return connection.execute(_FORGET, where).rowcount
