"""The broadcast that a watch writes: a new one or one that is continued; closed in any case."""

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
"""For how long the end of a broadcast is written again, and how often, while that fails.

A run that is cancelled is killed after 30 s.
"""

RESERVED: Final = 10_000
RESERVED_SEGMENTS: Final = 1_000
"""So many numbers of tracks, and of segments, are left to another machine, which may have some that
it has not stored: it may have been cut off, and not dead."""

END: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedBroadcast:
    """The broadcast that a watch writes.

    until: when to stop, for one that is continued; None for a new one. stored: the starts of the
    segments whose analysis is settled. gaps: the starts of those that are stored. last: the segment
    that the database has as the last, whichever machine recorded it; None of none.
    tracker_state: after the last of the segments. last_track: the highest number of its tracks,
    also of a stretch that was analysed again.
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

    A run that is started again goes on with its own, though a signal had ended it: not every
    SIGTERM is a cancel. One of another run is never continued: it has another planned end, and that
    run may have been cancelled. The channel's lock is held: whoever wrote it is gone. until: when a
    new one ends, if not after the show's own length.
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
                log.warning("going on with the broadcast of %s", left.started_at)
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
                    # The newest there is, whatever the source's clock says.
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
    """Return a broadcast's last segment, numbers after it being left to another machine."""
    last = segment_of(row, slug, Path(row.path or ""))
    return replace(last, sequence=last.sequence + (RESERVED_SEGMENTS if left_to else 0))


def close(engine: Engine, broadcast: WatchedBroadcast, status: str, log: Log) -> None:
    """Say how the broadcast ended; the channel's next watch does, if the database is away."""
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
                log.warning("the broadcast stays open until the next watch: %s", e)
                return
            time.sleep(_CLOSE_AGAIN_S)
        else:
            return
