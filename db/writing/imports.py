"""Recorded files as broadcasts: each file is one of its channel, wherever in time it is put."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select, text, update

from db.errors import TimeTaken
from db.tables.shows import Broadcast, Channel
from db.writing.forgetting import clear_broadcast, forget_broadcasts, lock_channel
from db.writing.writes import ensure_channel, open_broadcast

# By content; imports of older versions by path.
_IMPORTS = text(
    "SELECT b.id FROM broadcasts b JOIN channels c ON c.id = b.channel_id WHERE c.slug = :slug"
    " AND (b.source_id = :source OR (b.source_id IS NULL AND b.flow_run_id IS NULL"
    "  AND EXISTS (SELECT FROM segments s WHERE s.broadcast_id = b.id AND s.path = :path)))"
    " ORDER BY b.source_id IS NULL, b.id"
)

_TAKEN = text(
    "SELECT b.id, b.title, b.started_at FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
    " WHERE c.slug = :slug AND b.id <> ALL(:own) AND (b.started_at = :start OR EXISTS"
    "  (SELECT FROM segments s WHERE s.broadcast_id = b.id"
    "   AND s.started_at < :end AND s.ended_at > :start))"
    " ORDER BY b.started_at LIMIT 1"
)


def imports_of(connection: Connection, slug: str, source_id: str, path: Path) -> list[int]:
    """Return the broadcasts of a channel that were imported from this file."""
    where = {"slug": slug, "source": source_id, "path": str(path)}
    return list(connection.scalars(_IMPORTS, where))


def require_free(
    connection: Connection, slug: str, start: datetime, end: datetime, *, own: list[int]
) -> None:
    """Raise TimeTaken if a broadcast of the channel, other than `own`, overlaps [start, end)."""
    span = {"slug": slug, "start": start, "end": end, "own": own}
    taken = connection.execute(_TAKEN, span).one_or_none()
    if taken is not None:
        called = f" ({taken.title})" if taken.title else ""
        raise TimeTaken(
            f"{slug} has another show at that time, number {taken.id}{called}, from "
            f"{taken.started_at:%Y-%m-%d %H:%M:%S} UTC: choose another --name or --start, or "
            f"delete that one first (showmood forget {slug} --show {taken.id})"
        )


def open_import(
    connection: Connection,
    *,
    slug: str,
    path: Path,
    source_id: str,
    title: str,
    start: datetime,
    end: datetime,
) -> tuple[int, int]:
    """Return the ids of channel and broadcast for a file that is imported at [start, end).

    If the channel already has the file, that broadcast is cleared and moved. The channel
    keeps its URL. Raises TimeTaken.
    """
    channel_id = connection.scalar(select(Channel.id).where(Channel.slug == slug))
    if channel_id is None:
        channel_id = ensure_channel(connection, slug, path.as_uri())
    lock_channel(connection, channel_id)
    own = imports_of(connection, slug, source_id, path)
    require_free(connection, slug, start, end, own=own)
    forget_broadcasts(connection, channel_id, own[1:])
    if own:
        clear_broadcast(connection, channel_id, own[0])
        connection.execute(
            update(Broadcast)
            .where(Broadcast.id == own[0])
            .values(started_at=start, observed_from=None, observed_until=None)
        )
    broadcast_id = open_broadcast(
        connection,
        channel_id=channel_id,
        started_at=start,
        source_id=source_id,
        title=title,
        status="interrupted",
    )
    connection.execute(update(Broadcast).where(Broadcast.id == broadcast_id).values(imported=True))
    return channel_id, broadcast_id
