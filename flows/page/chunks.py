"""A show's numbers in columns, a stretch of time each: what a browser asks for once.

Shares are sent in thousandths, times in milliseconds from the chunk's beginning: integers are
short, and compress well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from db.models import EMOTIONS
from flows.page.questions import ShowRow, rows

SPANS_S: Final = {60: 86_400, 10: 3_600, 1: 300}
"""Seconds that one chunk holds, by the seconds of its buckets."""

FACES_S: Final = 30
"""Seconds of faces in one chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A chunk of a show. closed: nothing will be added to it."""

    body: dict[str, Any]
    closed: bool


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def means(
    connection: Connection, show: ShowRow, step_s: int, index: int, until: datetime
) -> Chunk | None:
    """Return means over buckets of `step_s`; None where no such chunk can be.

    index: of the chunk, counted from 1970. until: what was recorded of the show ends there.
    """
    span_s = SPANS_S[step_s]
    begin, end = _moment(index * span_s), _moment((index + 1) * span_s)
    if begin is None or end is None:
        return None
    values: dict[str, Any] = {"id": show.broadcast_id, "since": begin, "until": end}
    if step_s != 60:
        values["channel"] = show.channel
    if step_s == 10:
        found = rows(connection, "buckets", bucket=timedelta(seconds=step_s), **values)
    else:
        found = rows(connection, "minutes" if step_s == 60 else "seconds", **values)
    return Chunk(body=columns(found, begin), closed=_closed(show, end, until))


def faces(connection: Connection, show: ShowRow, index: int, until: datetime) -> Chunk | None:
    """Return every face of FACES_S; None where no such chunk can be."""
    begin, end = _moment(index * FACES_S), _moment((index + 1) * FACES_S)
    if begin is None or end is None:
        return None
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
    return Chunk(body=body, closed=_closed(show, end, until))


def columns(found: Sequence[Any], begin: datetime) -> dict[str, Any]:
    """Return rows with `at`, `tracks` and the emotions, smoothed and raw, as columns."""
    return {
        "start": _ms(begin),
        "at": [_ms(row.at) - _ms(begin) for row in found],
        "faces": [int(row.tracks) for row in found],
        "share": {name: [_share(getattr(row, name)) for row in found] for name in EMOTIONS},
        "raw": {name: [_share(getattr(row, f"raw_{name}")) for row in found] for name in EMOTIONS},
    }


def _closed(show: ShowRow, end: datetime, until: datetime) -> bool:
    return show.status != "live" or end + timedelta(minutes=2) < until


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _share(value: float | None) -> int | None:
    return None if value is None else round(value * 1000)
