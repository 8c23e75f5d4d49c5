"""Kept stretches of recordings, which are protected from retention."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import String

from db.errors import UnknownChannel

MAX_KEPT: Final = timedelta(days=7)
"""Maximum length of a kept stretch, that of a show."""

NOTE_CHARS: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRow:
    """A kept stretch; times are aware."""

    id: int
    channel: str
    started_at: datetime
    ended_at: datetime
    note: str
    kept_at: datetime


_KEEP = text(
    "INSERT INTO kept (channel_id, started_at, ended_at, note)"
    " SELECT id, :since, :until, :note FROM channels WHERE slug = :slug RETURNING id"
)
_LET_GO = text("DELETE FROM kept WHERE id = :id")
_LISTED = text(
    "SELECT id, channel, started_at, ended_at, note, kept_at FROM kept_recordings"
    " WHERE (CAST(:slug AS text) IS NULL OR channel = :slug) ORDER BY started_at DESC, id DESC"
)
_AMONG = text(
    "SELECT substring(s.path FROM '[^/]*$') FROM segments s"
    " WHERE s.broadcast_id = :broadcast AND substring(s.path FROM '[^/]*$') = ANY(:names)"
    " AND EXISTS (SELECT FROM kept k WHERE k.channel_id = s.channel_id"
    " AND k.started_at < s.ended_at AND k.ended_at > s.started_at)"
).bindparams(bindparam("names", type_=ARRAY(String)))


def keep(connection: Connection, slug: str, since: datetime, until: datetime, note: str) -> int:
    """Keep [since, until) of a channel's recordings, and return its number.

    Raises ValueError for a stretch that is empty or longer than MAX_KEPT, or a note of more than
    NOTE_CHARS; UnknownChannel.
    """
    if not since < until:
        raise ValueError("a kept stretch must end after it begins")
    if until - since > MAX_KEPT:
        raise ValueError(f"a kept stretch is at most {MAX_KEPT.days} days long")
    if len(note) > NOTE_CHARS or "\0" in note:
        raise ValueError(f"a note is text of at most {NOTE_CHARS} characters")
    values = {"slug": slug, "since": since, "until": until, "note": note}
    made: int | None = connection.scalar(_KEEP, values)
    if made is None:
        raise UnknownChannel(f"there is no channel '{slug}' in the database")
    return made


def let_go(connection: Connection, number: int) -> bool:
    """Remove a kept stretch; return whether it existed."""
    return connection.execute(_LET_GO, {"id": number}).rowcount > 0


def kept(connection: Connection, slug: str | None = None) -> list[KeptRow]:
    """Return the kept stretches of one channel or of all, newest first."""
    return [KeptRow(**row._mapping) for row in connection.execute(_LISTED, {"slug": slug})]


def kept_among(connection: Connection, broadcast_id: int, names: Sequence[str]) -> set[str]:
    """Return the names of a broadcast's files that are kept, at least in part."""
    values = {"broadcast": broadcast_id, "names": list(names)}
    return set(connection.scalars(_AMONG, values))
