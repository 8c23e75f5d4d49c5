"""Reads all analysed frames of a channel with their faces, also frames without faces, in order."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, text

from db.reading.history import Batch, shows_between
from db.tables.shows import EMOTIONS

COLUMNS: Final = (
    "frame",
    "ts",
    "fps",
    "frame_width_px",
    "frame_height_px",
    "track",
    "score",
    "x0",
    "y0",
    "x1",
    "y1",
    "roll_deg",
    *EMOTIONS,
)
"""frame: number within its show, from 1. Columns from `track` on are null without a face."""

_SLICE: Final = timedelta(minutes=30)

_FRAMES = text(
    "SELECT ts, fps, frame_width_px, frame_height_px FROM show_frames"
    " WHERE channel = :slug AND broadcast_id = :show AND ts >= :since AND ts < :until ORDER BY ts"
)

_BEFORE = text(
    "SELECT count(*) FROM show_frames"
    " WHERE channel = :slug AND broadcast_id = :show AND ts < :since"
)

_FACES = text(
    f"SELECT ts, {', '.join(COLUMNS[5:])} FROM emotion_history"
    " WHERE channel = :slug AND broadcast_id = :show AND ts >= :since AND ts < :until"
    " ORDER BY ts, track"
)

_ENDS = text(
    "SELECT first_recorded, last_recorded FROM coverage"
    " WHERE channel = :slug AND broadcast_id = :show"
)


def read_frames(
    connection: Connection,
    slug: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    show_ids: Collection[int] | None = None,
) -> Iterator[Batch]:
    """Yield rows of `COLUMNS` in [since, until), show by show: one a face, or a frame without one.

    Raise UnknownChannel.
    """
    shows, begin, end = shows_between(connection, slug, since, until, show_ids=show_ids)
    for show in shows:
        span = {"slug": slug, "show": show.id}
        first, last = connection.execute(_ENDS, span).one()
        if first is None:
            continue
        low, high = max(first, begin), min(end, last)
        # Frames are always counted from the show's first one, so their numbers are stable.
        number = 0
        if first < low < high:
            number = connection.execute(_BEFORE, span | {"since": low}).scalar_one()
        while low < high:
            stop = min(low + _SLICE, high)
            part = span | {"since": low, "until": stop}
            faces = {
                ts: [tuple(row)[1:] for row in rows]
                for ts, rows in groupby(connection.execute(_FACES, part), lambda row: row[0])
            }
            rows: list[tuple[Any, ...]] = []
            for ts, *facts in connection.execute(_FRAMES, part):
                number += 1
                nobody = [(None,) * (len(COLUMNS) - 5)]
                rows += [(number, ts, *facts, *face) for face in faces.get(ts, nobody)]
            if rows:
                yield Batch(show=show, rows=rows, until=stop)
            low = stop
