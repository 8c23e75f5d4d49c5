"""Deletes all rows of broadcasts, in the caller's transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, text

from db.tables.observations import Base
from db.tables.shows import TRACKS_PER_BROADCAST, Broadcast
from db.writing.replacement import LOCK_TIMEOUT, SET_LOCK_TIMEOUT

_BY_BROADCAST: Final = tuple(
    table for table in reversed(Base.metadata.sorted_tables) if "broadcast_id" in table.columns
)
"""The tables with a broadcast's id, in the order required by foreign keys."""

_LOCK_CHANNEL = text("SELECT id FROM channels WHERE id = :channel FOR NO KEY UPDATE")

# With the range of the tracks, so that the key (channel, time, track) is used.
_DELETE_OBSERVATIONS = text(
    "DELETE FROM observations WHERE channel_id = :channel"
    " AND ts >= (SELECT min(first_ts) FROM face_tracks WHERE broadcast_id = :broadcast)"
    " AND ts <= (SELECT max(last_ts) FROM face_tracks WHERE broadcast_id = :broadcast)"
    f" AND track_id >= :broadcast * {TRACKS_PER_BROADCAST}::bigint"
    f" AND track_id < (:broadcast + 1) * {TRACKS_PER_BROADCAST}::bigint"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """Number of deleted rows. observations: faces. others: segments, tracks, minutes, gaps ..."""

    observations: int = 0
    others: int = 0


def lock_channel(connection: Connection, channel_id: int) -> None:
    """Block other writers of a channel until this transaction ends."""
    connection.execute(SET_LOCK_TIMEOUT, {"timeout": LOCK_TIMEOUT})
    connection.execute(_LOCK_CHANNEL, {"channel": channel_id})


def clear_broadcast(connection: Connection, channel_id: int, broadcast_id: int) -> Forgotten:
    """Delete all rows of a broadcast, except the one in `broadcasts`."""
    span = {"channel": channel_id, "broadcast": broadcast_id}
    observations = connection.execute(_DELETE_OBSERVATIONS, span).rowcount
    others = sum(
        connection.execute(delete(table).where(table.c.broadcast_id == broadcast_id)).rowcount
        for table in _BY_BROADCAST
    )
    return Forgotten(observations=observations, others=others)


def forget_broadcasts(
    connection: Connection, channel_id: int, broadcast_ids: Collection[int]
) -> Forgotten:
    """Delete broadcasts of a channel with all their rows."""
    lock_channel(connection, channel_id)
    observations = others = 0
    for broadcast_id in sorted(broadcast_ids):
        gone = clear_broadcast(connection, channel_id, broadcast_id)
        connection.execute(delete(Broadcast).where(Broadcast.id == broadcast_id))
        observations += gone.observations
        others += gone.others + 1
    return Forgotten(observations=observations, others=others)


def forget_channel(connection: Connection, channel_id: int) -> None:
    """Delete the row of a channel if it has no broadcasts."""
    connection.execute(
        text(
            "DELETE FROM channels c WHERE id = :channel"
            " AND NOT EXISTS (SELECT FROM broadcasts WHERE channel_id = c.id)"
        ),
        {"channel": channel_id},
    )
