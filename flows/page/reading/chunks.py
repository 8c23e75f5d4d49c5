"""A show's values in columns, by time ranges that a browser requests once.

Shares are sent in thousandths, times in milliseconds from the chunk's beginning: integers are
short, and compress well.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from db.tables.shows import EMOTIONS
from flows.page.reading.show_queries import ShowRow, rows

SPANS_S: Final = {60: 86_400, 10: 3_600, 1: 300}
"""Seconds that one chunk holds, by the seconds of its buckets."""

FACES_S: Final = 30
"""Seconds of faces in one chunk."""


def span(length_s: int, index: int) -> tuple[datetime, datetime] | None:
    """Return a chunk's time range, counted from 1970; None if it is out of range."""
    try:
        begin = datetime.fromtimestamp(index * length_s, UTC)
        return begin, begin + timedelta(seconds=length_s)
    except (ValueError, OverflowError, OSError):
        return None


def means(
    connection: Connection, show: ShowRow, step_s: int, begin: datetime, end: datetime
) -> dict[str, Any]:
    """Return means over buckets of `step_s`, as columns."""
    values: dict[str, Any] = {"id": show.broadcast_id, "since": begin, "until": end}
    if step_s != 60:
        values["channel"] = show.channel
    if step_s == 10:
        found = rows(connection, "buckets", bucket=timedelta(seconds=step_s), **values)
    else:
        found = rows(connection, "minutes" if step_s == 60 else "seconds", **values)
    return columns(found, begin)


def faces(connection: Connection, show: ShowRow, begin: datetime, end: datetime) -> dict[str, Any]:
    """Return every face, as columns."""
    found = rows(
        connection, "faces", id=show.broadcast_id, channel=show.channel, since=begin, until=end
    )
    body: dict[str, Any] = {
        "start": _ms(begin),
        "at": [_ms(row.ts) - _ms(begin) for row in found],
        "track": [row.track for row in found],
        "box": [
            [round(row.x0), round(row.y0), round(row.x1 - row.x0), round(row.y1 - row.y0)]
            for row in found
        ],
    }
    body["share"] = {name: [_share(getattr(row, name)) for row in found] for name in EMOTIONS}
    return body


def columns(found: Sequence[Any], begin: datetime) -> dict[str, Any]:
    """Return rows with `at`, `tracks` and the emotions, smoothed and raw, as columns."""
    return {
        "start": _ms(begin),
        "at": [_ms(row.at) - _ms(begin) for row in found],
        "faces": [int(row.tracks) for row in found],
        "share": {name: [_share(getattr(row, name)) for row in found] for name in EMOTIONS},
        "raw": {name: [_share(getattr(row, f"raw_{name}")) for row in found] for name in EMOTIONS},
    }


def closed(show: ShowRow, end: datetime, until: datetime) -> bool:
    """Return whether nothing will be added to a chunk. until: the end of what was recorded."""
    return show.status != "live" or end + timedelta(minutes=2) < until


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _share(value: float | None) -> int | None:
    return None if value is None else round(value * 1000)
