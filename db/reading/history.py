"""Reads a channel's history row by row: in batches, in order, with bounded memory.

Reads only views, so it works with an analyst's rights. Columns, their types and their meaning
come from the database.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from sqlalchemy import Connection, Integer, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime

from db.reading.queries import BEGINNING, END
from db.reading.shows import ShowRow, shows_of

Kind = Literal["faces", "frames", "seconds", "shots", "tracks"]
KINDS: Final = get_args(Kind)

BATCH_ROWS: Final = 5000

SLICE: Final = timedelta(days=1)
"""Length of the parts in which rows are read, so that the server never sorts more than a day."""

_SKEW: Final = timedelta(days=1)
"""Allowed difference between a show's times, by our clock, and its rows', by the source's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The view of one kind of rows. at: its column of time. order: sort order within a show."""

    name: str
    at: str
    order: str


VIEWS: Final[dict[Kind, View]] = {
    "faces": View(name="emotion_history", at="ts", order="ts, track"),
    "frames": View(name="show_frames", at="ts", order="ts"),
    "seconds": View(name="emotion_seconds", at="second", order="second"),
    "shots": View(name="show_shots", at="started_at", order="started_at"),
    "tracks": View(name="track_summary", at="first_ts", order="first_ts, track"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnInfo:
    """A column of a view. kind: Postgres's name of its type."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some rows of one show, in order; until: end of the range read so far."""

    show: ShowRow
    rows: Sequence[Sequence[Any]]
    until: datetime


_COLUMNS = text(
    "SELECT attname AS name, format_type(atttypid, NULL) AS kind,"
    " coalesce(col_description(attrelid, attnum), '') AS meaning"
    " FROM pg_attribute WHERE attrelid = CAST(:view AS regclass) AND attnum > 0 ORDER BY attnum"
)

# Tracks are kept at least as long as raw rows, and give their range of time.
_SPANS = text(
    "SELECT broadcast_id, min(first_ts), max(last_ts) FROM track_summary"
    " WHERE broadcast_id = ANY(:ids) AND first_ts < :until AND last_ts >= :since"
    " GROUP BY 1"
).bindparams(
    bindparam("ids", type_=ARRAY(Integer)),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)


def columns_of(connection: Connection, kind: Kind) -> list[ColumnInfo]:
    """Return the columns of a kind of rows, in order."""
    rows = connection.execute(_COLUMNS, {"view": VIEWS[kind].name})
    return [ColumnInfo(**row._mapping) for row in rows]


def shows_between(
    connection: Connection,
    slug: str,
    since: datetime | None,
    until: datetime | None,
    *,
    show_ids: Collection[int] | None,
) -> tuple[list[ShowRow], datetime, datetime]:
    """Return the shows that may have rows in [since, until), and that range without None.

    show_ids: only these. Raise UnknownChannel, or ValueError for a naive time.
    """
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{name} must be aware, not {moment!r}")
    begin, end = since or BEGINNING, until or END
    shows = [
        show
        for show in shows_of(connection, slug)
        if (show_ids is None or show.id in show_ids)
        and show.started_at - _SKEW < end
        and (show.ended_at is None or show.ended_at + _SKEW > begin)
    ]
    return shows, begin, end


def read_rows(
    connection: Connection,
    slug: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    kind: Kind = "faces",
    show_ids: Collection[int] | None = None,
) -> Iterator[Batch]:
    """Yield a channel's rows in [since, until), show by show, each in order of time.

    show_ids: only these shows. Raise UnknownChannel, or ValueError for a naive time.
    """
    shows, begin, end = shows_between(connection, slug, since, until, show_ids=show_ids)
    seen: dict[int, tuple[datetime, datetime]] = {}
    if kind == "faces":
        where = {"ids": [show.id for show in shows], "since": begin, "until": end}
        seen = {row[0]: (row[1], row[2]) for row in connection.execute(_SPANS, where)}
        shows = [show for show in shows if show.id in seen]
    view = VIEWS[kind]
    names = ", ".join(f'"{column.name}"' for column in columns_of(connection, kind))
    statement = text(
        f"SELECT {names} FROM {view.name} WHERE channel = :slug AND broadcast_id = :show"
        f" AND {view.at} >= :since AND {view.at} < :until ORDER BY {view.order}"
    )
    position = [column.name for column in columns_of(connection, kind)].index(view.at)
    for show in shows:
        low, high = begin, end
        if show.id in seen:
            first, last = seen[show.id]
            low, high = max(begin, first), min(end, last + timedelta(microseconds=1))
        while low < high:
            stop = min(low + SLICE, high) if kind == "faces" else high
            span = {"slug": slug, "show": show.id, "since": low, "until": stop}
            with connection.execution_options(stream_results=True, yield_per=BATCH_ROWS).execute(
                statement, span
            ) as rows:
                for part in rows.partitions(BATCH_ROWS):
                    yield Batch(show=show, rows=part, until=part[-1][position])
            low = stop
