"""The state of a channel's newest broadcast, queried every second while it is on air."""

from typing import Final

from sqlalchemy import Connection, select, text

from db.reading.answers import Newest
from db.reading.queries import channel_id, strongest
from db.tables.shows import EMOTIONS, TRACKS_PER_BROADCAST, Broadcast

_MEANS: Final = ", ".join(f"avg(smoothed_{emotion})" for emotion in EMOTIONS)

_NEWEST_MOMENT = text(
    f"SELECT ts, count(*), {_MEANS} FROM observations"
    " WHERE channel_id = :channel AND track_id BETWEEN :low AND :high"
    " AND ts = (SELECT max(last_ts) FROM face_tracks WHERE broadcast_id = :broadcast) GROUP BY ts"
)

# Sums minutes instead of observations, because it is queried every second.
_COUNTS = text(
    "SELECT (SELECT coalesce(sum(n), 0) FROM emotion_minutes WHERE broadcast_id = :broadcast),"
    " (SELECT count(*) FROM face_tracks WHERE broadcast_id = :broadcast),"
    " (SELECT max(ended_at) FROM segments WHERE broadcast_id = :broadcast),"
    " (SELECT lag_ms FROM segments WHERE broadcast_id = :broadcast AND status = 'analysed'"
    "  ORDER BY started_at DESC LIMIT 1)"
)


def newest(connection: Connection, slug: str) -> Newest | None:
    """Return the state of the channel's newest broadcast; None if it has none."""
    number = channel_id(connection, slug)
    show = connection.execute(
        select(Broadcast.id, Broadcast.status, Broadcast.started_at)
        .where(Broadcast.channel_id == number)
        .order_by(Broadcast.started_at.desc())
        .limit(1)
    ).one_or_none()
    if show is None:
        return None
    observations, n_tracks, recorded_until, lag_ms = connection.execute(
        _COUNTS, {"broadcast": show.id}
    ).one()
    moment = connection.execute(
        _NEWEST_MOMENT,
        {
            "channel": number,
            "broadcast": show.id,
            "low": show.id * TRACKS_PER_BROADCAST,
            "high": (show.id + 1) * TRACKS_PER_BROADCAST - 1,
        },
    ).one_or_none()
    statuses = connection.execute(
        text(
            "SELECT status, count(*) FROM segments WHERE broadcast_id = :broadcast"
            " GROUP BY status ORDER BY status"
        ),
        {"broadcast": show.id},
    )
    return Newest(
        broadcast_id=show.id,
        status=show.status,
        started_at=show.started_at,
        segments={row[0]: row[1] for row in statuses},
        n_observations=int(observations),
        n_tracks=n_tracks,
        recorded_until=recorded_until,
        ts=moment[0] if moment else None,
        n_faces=moment[1] if moment else 0,
        emotion=strongest(dict(zip(EMOTIONS, moment[2:], strict=True))) if moment else None,
        lag_ms=lag_ms,
    )
