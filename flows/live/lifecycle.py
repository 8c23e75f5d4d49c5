"""Opens the broadcast that a watch writes, new or continued, and closes it."""

import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from db.reading import queries
from db.reading.recordings import RecordedRow, gap_starts, last_of, starts
from db.writing import writes
from db.writing.spool import PASSING, commit
from db.writing.tracks import last_number
from flows.capture.redaction import shorten
from flows.capture.segment import Segment
from flows.capture.stream import Stream
from flows.recordings.finding import segment_of
from flows.show import Show

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

_CLOSE_S: Final = 60.0
_CLOSE_HASTILY_S: Final = 5.0
_CLOSE_AGAIN_S: Final = 1.0
"""Seconds for which closing a broadcast is retried: if completed, else; and between two tries.

A cancelled run is killed after 30 s.
"""

RESERVED: Final = 10_000
RESERVED_SEGMENTS: Final = 1_000
"""Track and segment numbers reserved for another machine that recorded before: it may still run
without a network, and have numbers that it has not stored."""

END: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedBroadcast:
    """The broadcast that a watch writes.

    until: when to stop, if it is continued; None for a new one. stored: starts of the segments that
    were analysed or failed. gaps: starts of the stored gaps. last: its last segment in the
    database, of any machine, or None. tracker_state: after the last segment. last_track: its
    highest track number, reanalysed segments included.
    """

    id: int
    channel_id: int
    started_at: datetime
    until: datetime | None = None
    stored: frozenset[datetime] = frozenset()
    gaps: frozenset[datetime] = frozenset()
    last: Segment | None = None
    tracker_state: dict[str, Any] | None = None
    last_track: int = 0


def open_or_continue(
    engine: Engine,
    show: Show,
    stream: Stream,
    until: datetime | None,
    *,
    run_id: str | None,
    log: Log,
    machine: str | None = None,
) -> WatchedBroadcast:
    """Return the broadcast to write: this run's own, if its time is not over, or a new one.

    A restarted run continues its own broadcast, even if a signal had ended it: not every SIGTERM is
    a cancel. Another run's is never continued: it has another planned end, and may have been
    cancelled. The channel's lock must be held, so that the broadcast has no writer. until: end of a
    new one, by default after the show's length.
    """
    now = datetime.now(UTC)
    with engine.begin() as connection:
        channel_id = writes.ensure_channel(connection, show.slug, shorten(show.url))
        if run_id is not None:
            writes.reopen_broadcast(
                connection,
                channel_id=channel_id,
                flow_run_id=run_id,
                source_id=stream.source_id,
                now=now,
            )
        left = writes.find_open_broadcast(connection, channel_id)
        if left is not None:
            is_own = run_id is not None and left.flow_run_id == run_id
            is_over = left.planned_end is None or left.planned_end <= now
            if is_own and not is_over and left.source_id == stream.source_id:
                log.warning("continuing the broadcast of %s", left.started_at)
                last = last_of(connection, left.id)
                reserved = 0 if last is None or last.machine in (None, machine) else RESERVED
                return WatchedBroadcast(
                    id=left.id,
                    channel_id=channel_id,
                    started_at=left.started_at,
                    until=left.planned_end,
                    stored=starts(connection, left.id, settled=True),
                    gaps=gap_starts(connection, left.id),
                    last=None if last is None else _segment_of(last, show.slug, left_to=reserved),
                    # The newest state, even if the source's clock has changed.
                    tracker_state=queries.tracker_state_before(connection, left.id, END),
                    last_track=last_number(connection, left.id) + reserved,
                )
            writes.interrupt_broadcast(connection, left.id)
        new = writes.open_broadcast(
            connection,
            channel_id=channel_id,
            started_at=now,
            planned_end=until or now + show.length,
            source_id=stream.source_id,
            title=stream.title,
            flow_run_id=run_id,
        )
    return WatchedBroadcast(id=new, channel_id=channel_id, started_at=now, until=until)


def _segment_of(row: RecordedRow, slug: str, *, left_to: int) -> Segment:
    """Return a broadcast's last segment; left_to: after it, reserve numbers for another machine."""
    last = segment_of(row, slug, Path(row.path or ""))
    return replace(last, sequence=last.sequence + (RESERVED_SEGMENTS if left_to else 0))


def close(engine: Engine, broadcast: WatchedBroadcast, status: str, log: Log) -> None:
    """Close the broadcast with a status; if the database is away, the next watch closes it."""
    end = time.monotonic() + (_CLOSE_S if status == "completed" else _CLOSE_HASTILY_S)
    now = datetime.now(UTC)
    while True:
        try:
            commit(
                engine,
                lambda connection: writes.close_broadcast(
                    connection, broadcast.id, ended_at=now, status=status
                ),
            )
        except PASSING as e:
            if time.monotonic() >= end:
                log.warning("broadcast left open; the next watch closes it: %s", e)
                return
            time.sleep(_CLOSE_AGAIN_S)
        else:
            return
