"""A channel's shows, by what an analyst may read."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Integer, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from db.reading.queries import channel_id


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowRow:
    """A show. title: the channel's name where it has none. ended_at: None while it is on air."""

    id: int
    title: str
    started_at: datetime
    ended_at: datetime | None
    status: str

    def said(self) -> str:
        """Say which one it is."""
        return f"{self.id} ({self.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {self.title})"


_SHOWS = text(
    "SELECT broadcast_id AS id, show AS title, started_at, ended_at, status FROM coverage"
    " WHERE channel = :slug ORDER BY started_at"
)


def shows_of(connection: Connection, slug: str) -> list[ShowRow]:
    """Return the shows of a channel, oldest first. Raises UnknownChannel."""
    channel_id(connection, slug)
    rows = connection.execute(_SHOWS, {"slug": slug})
    return [ShowRow(**row._mapping) for row in rows]


def n_faces_of(connection: Connection, slug: str, show_ids: Collection[int]) -> int:
    """Return how many faces were stored of these shows of a channel, counted by minutes."""
    statement = text(
        "SELECT coalesce(sum(observations), 0) FROM emotion_timeline"
        " WHERE channel = :slug AND broadcast_id = ANY(:ids)"
    ).bindparams(bindparam("ids", type_=ARRAY(Integer)))
    return int(connection.scalar(statement, {"slug": slug, "ids": sorted(show_ids)}) or 0)
