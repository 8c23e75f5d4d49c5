"""Queries of a channel's shows, with an analyst's rights."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, Integer, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from db.reading.queries import require_channel


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowRow:
    """A show. title: the channel's name if it has none. ended_at: None while it is on air.

    first_recorded, last_recorded: by the source's clock; set only by `with_recorded`.
    """

    id: int
    title: str
    started_at: datetime
    ended_at: datetime | None
    status: str
    first_recorded: datetime | None = None
    last_recorded: datetime | None = None

    def summary(self) -> str:
        """Return a one-line summary."""
        return f"{self.id} ({self.started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {self.title})"


_SHOWS = text(
    "SELECT broadcast_id AS id, show AS title, started_at, ended_at, status FROM shows"
    " WHERE channel = :slug ORDER BY started_at"
)


def shows_of(connection: Connection, slug: str) -> list[ShowRow]:
    """Return the shows of a channel, oldest first. Raises UnknownChannel."""
    require_channel(connection, slug)
    rows = connection.execute(_SHOWS, {"slug": slug})
    return [ShowRow(**row._mapping) for row in rows]


def with_recorded(connection: Connection, shows: Sequence[ShowRow]) -> list[ShowRow]:
    """Return the shows with their first and last recorded times."""
    statement = text(
        "SELECT broadcast_id, first_recorded, last_recorded FROM coverage"
        " WHERE broadcast_id = ANY(:ids)"
    ).bindparams(bindparam("ids", type_=ARRAY(Integer)))
    rows = connection.execute(statement, {"ids": [show.id for show in shows]})
    found = {row[0]: (row[1], row[2]) for row in rows}
    return [
        replace(show, first_recorded=found[show.id][0], last_recorded=found[show.id][1])
        for show in shows
    ]


def n_faces_of(connection: Connection, slug: str, show_ids: Collection[int]) -> int:
    """Return the number of stored faces of these shows, from the table of minutes."""
    statement = text(
        "SELECT coalesce(sum(observations), 0) FROM emotion_timeline"
        " WHERE channel = :slug AND broadcast_id = ANY(:ids)"
    ).bindparams(bindparam("ids", type_=ARRAY(Integer)))
    return int(connection.scalar(statement, {"slug": slug, "ids": sorted(show_ids)}) or 0)
