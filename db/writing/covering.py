"""Overlaps of segments and gaps: no second is stored twice, and gaps cover no segment.

Two machines may record the same seconds, if one was cut off and another took over. Stored segments
win; later ones are cut to the uncovered parts, which fill the gaps of the other machine.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from db.writing.rows import SegmentRow

MIN_LENGTH: Final = timedelta(milliseconds=100)
"""Minimum length of a gap, and of the remaining part of a segment."""

MAX_SEGMENT: Final = timedelta(minutes=10)
"""Maximum length of a segment, which bounds the search for overlapping ones."""

Span = tuple[datetime, datetime]

_SEGMENTS = text(
    "SELECT started_at, ended_at FROM segments WHERE channel_id = :channel AND started_at < :end"
    " AND started_at > :earliest AND ended_at > :start AND (started_at IS DISTINCT FROM :own"
    "  OR machine <> :machine AND status = 'analysed') ORDER BY started_at"
)
GAP_THERE: Final = (
    "EXISTS (SELECT FROM gaps WHERE channel_id = :channel AND broadcast_id = :broadcast"
    " AND started_at < :end AND ended_at > :start)"
)
"""Whether a gap of the broadcast overlaps [:start, :end) of :channel."""

_TAKE_GAPS = text(
    "DELETE FROM gaps WHERE channel_id = :channel AND broadcast_id = :broadcast"
    " AND started_at < :end AND ended_at > :start RETURNING started_at, ended_at, why"
)
_PUT_GAP = text(
    "INSERT INTO gaps (broadcast_id, started_at, ended_at, channel_id, why)"
    " VALUES (:broadcast, :start, :end, :channel, :why)"
    " ON CONFLICT (broadcast_id, started_at) DO UPDATE SET ended_at = excluded.ended_at,"
    " why = excluded.why"
)


def uncovered(
    connection: Connection,
    channel_id: int,
    start: datetime,
    end: datetime,
    *,
    own: datetime | None = None,
    machine: str | None = None,
) -> list[Span]:
    """Return the parts of [start, end) that no segment of the channel covers, in order.

    own: ignore the segment that starts then, unless a machine other than `machine` analysed it.
    """
    found = connection.execute(
        _SEGMENTS,
        {
            "channel": channel_id,
            "start": start,
            "end": end,
            "earliest": start - MAX_SEGMENT,
            "own": own,
            "machine": machine,
        },
    )
    free: list[Span] = []
    at = start
    for began, stopped in found:
        if began - at >= MIN_LENGTH:
            free.append((at, began))
        at = max(at, stopped)
    if end - at >= MIN_LENGTH or (at == start and not free):
        free.append((at, end))
    return free


def parts_of(connection: Connection, segment: SegmentRow) -> list[SegmentRow]:
    """Return the parts of a segment that no other segment covers; its own row is ignored."""
    start, end = segment.started_at, segment.ended_at
    parts: list[SegmentRow] = []
    free = uncovered(connection, segment.channel_id, start, end, own=start, machine=segment.machine)
    for began, stopped in free:
        # Durations are rounded, so neighbours may overlap slightly; their keys do not change.
        first = start if began - start < MIN_LENGTH else began
        last = end if end - stopped < MIN_LENGTH else stopped
        parts.append(
            segment
            if (first, last) == (start, end)
            else replace(
                segment,
                started_at=first,
                duration_s=(last - first).total_seconds(),
                offset_s=segment.offset_s + (first - start).total_seconds(),
                frames_us=_within(segment.frames_us, first - start, last - start),
            )
        )
    return parts


def _within(frames_us: list[int] | None, first: timedelta, last: timedelta) -> list[int] | None:
    """Return the frames in [first, last) after the start, relative to `first`."""
    if frames_us is None:
        return None
    low, high = (round(each / timedelta(microseconds=1)) for each in (first, last))
    return [at - low for at in frames_us if low <= at < high]


def fill_gaps(
    connection: Connection, *, channel_id: int, broadcast_id: int, start: datetime, end: datetime
) -> None:
    """Cut [start, end) out of the gaps of a broadcast; the remaining parts keep their reason."""
    key: dict[str, Any] = {"channel": channel_id, "broadcast": broadcast_id}
    taken = connection.execute(_TAKE_GAPS, key | {"start": start, "end": end}).all()
    for began, stopped, why in taken:
        for rest in ((began, start), (end, stopped)):
            if rest[1] - rest[0] >= MIN_LENGTH:
                put_gap(connection, span=rest, why=why, **key)


def put_gap(connection: Connection, *, channel: int, broadcast: int, span: Span, why: str) -> None:
    """Write a gap; one with the same start is replaced."""
    values = {"channel": channel, "broadcast": broadcast, "start": span[0], "end": span[1]}
    connection.execute(_PUT_GAP, values | {"why": why})
