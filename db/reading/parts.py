"""The broadcasts of a stretch of a channel, for a re-analysis."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from db.reading.queries import channel_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A broadcast within a stretch; machine: the one with most of its files, None without files."""

    broadcast_id: int
    status: str
    started_at: datetime
    ended_at: datetime
    machine: str | None


_PARTS = text(
    "SELECT s.broadcast_id, b.status, min(s.started_at) AS started_at,"
    " max(s.ended_at) AS ended_at,"
    " mode() WITHIN GROUP (ORDER BY s.machine) FILTER (WHERE s.path IS NOT NULL) AS machine"
    " FROM segments s JOIN broadcasts b ON b.id = s.broadcast_id"
    " WHERE s.channel_id = :channel AND s.started_at < :end AND s.ended_at > :begin"
    " AND s.started_at > CAST(:begin AS timestamptz) - interval '10 minutes'"
    " AND (s.path IS NOT NULL OR s.object_key IS NOT NULL)"
    " GROUP BY s.broadcast_id, b.status ORDER BY 3"
)


def parts_between(connection: Connection, slug: str, begin: datetime, end: datetime) -> list[Part]:
    """Return the broadcasts with files in [begin, end); raise UnknownChannel."""
    where = {"channel": channel_id(connection, slug), "begin": begin, "end": end}
    return [Part(**row._mapping) for row in connection.execute(_PARTS, where)]
