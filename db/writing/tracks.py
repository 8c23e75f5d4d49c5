"""The track numbers that a broadcast already uses."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from sqlalchemy import Connection, text

from db.tables.shows import TRACKS_PER_BROADCAST

_REACHING_OUT = text(
    "SELECT coalesce(max(track_no), 0) FROM face_tracks WHERE broadcast_id = :broadcast"
    " AND (first_ts < :start OR last_ts >= :end)"
)

_SEEN = text(
    f"SELECT coalesce(max(o.track_id % {TRACKS_PER_BROADCAST}), 0) FROM observations o"
    " JOIN broadcasts b ON b.id = :broadcast AND b.channel_id = o.channel_id"
    " WHERE o.ts >= :start AND o.ts < :end"
    f" AND o.track_id > b.id * {TRACKS_PER_BROADCAST}::bigint"
    f" AND o.track_id < (b.id + 1) * {TRACKS_PER_BROADCAST}::bigint"
)


def last_number(
    connection: Connection,
    broadcast_id: int,
    outside: Sequence[tuple[datetime, datetime]] = (),
) -> int:
    """Return the highest track number of a broadcast, 0 without tracks.

    outside: half-open ranges of time, in order; tracks that occur only in them are ignored.
    """
    if not outside:
        found: int = connection.execute(
            text("SELECT coalesce(max(track_no), 0) FROM face_tracks WHERE broadcast_id = :id"),
            {"id": broadcast_id},
        ).scalar_one()
        return found
    of = {"broadcast": broadcast_id}
    span = {"start": outside[0][0], "end": outside[-1][1]}
    numbers: list[int] = [connection.execute(_REACHING_OUT, of | span).scalar_one()]
    for (_, end), (start, _) in pairwise(outside):
        if start > end:
            hole = {"start": end, "end": start}
            numbers.append(connection.execute(_SEEN, of | hole).scalar_one())
    return max(numbers)
