"""Segments and observations to rows: the only place that knows both `emotion` and `db`."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine

from db.errors import DatabaseError
from db.recordings import BroadcastRow, broadcasts
from db.replacing import replace_segment
from db.rows import ObservationRows, SegmentRow, StoredCounts
from db.spool import PASSING, Spool, commit
from db.writes import fail_segment, record_gap, record_lag, record_segment
from emotion.types import Observations
from flows.capture.segment import Gap, Segment
from flows.recordings import broadcast_of, folder_of

_log = logging.getLogger(__name__)

RETRY_S: Final = 5.0
"""A database that did not answer is left alone for so long: a show must not wait for it."""

WAITING: Final = "waiting"
"""The folder, in that of a broadcast's recording, of the writes that wait."""


def write_left_behind(engine: Engine, directory: Path) -> int:
    """Write what watchers of this channel could not, oldest broadcast first; return how much.

    directory: of the channel's recordings. To be called with the channel's lock held. What another
    database's broadcasts left is let be: their numbers are others' here. Raises one of
    db.spool.PASSING if the database is still away.
    """
    n_writes = 0
    for path in sorted(directory.glob(f"*/{WAITING}")):
        spool = Spool(path)
        if not spool.waiting():
            continue
        if _is_known(engine, path.parent):
            n_writes += spool.write(engine)
        else:
            _log.warning("%s is of a broadcast that this database does not know: it stays", path)
    return n_writes


def _is_known(engine: Engine, folder: Path) -> bool:
    """Tell whether a broadcast's folder is of one that this database has."""
    found: dict[int, BroadcastRow] = {}
    number = broadcast_of(folder)
    if number is not None:
        commit(engine, lambda connection: found.update(broadcasts(connection, [number])))
    row = found.get(number or 0)
    if row is None:
        return False
    return folder_of(folder.parent.parent, row.slug, row.started_at, row.id) == folder


@dataclass(kw_only=True, slots=True)
class Store:
    """Writes one broadcast.

    model: of the segments; empty until the networks are there. spool: where writes wait while the
    database is away, in order; without one they raise.
    """

    engine: Engine
    channel_id: int
    broadcast_id: int
    model: str
    spool: Spool | None = None
    _try_again_at: float = field(default=0.0, init=False)

    def analysed(
        self,
        segment: Segment,
        observations: Observations,
        *,
        frames: int,
        fps: float,
        tracker_state: dict[str, Any],
        closed_at: datetime | None = None,
    ) -> StoredCounts | None:
        """Replace exactly this segment's rows, in one transaction; None if that has to wait.

        closed_at: when the segment's file was finished, for the lag; None for a recording.
        """
        row = replace(
            self._row(segment),
            frames_analysed=frames,
            analysed_fps=fps,
            tracker_state=tracker_state,
        )
        rows = ObservationRows(
            ts=observations.ts,
            track=observations.track,
            boxes=observations.boxes,
            scores=observations.scores,
            probs=observations.probs,
            smoothed=observations.smoothed,
            affect=observations.affect,
        )
        counts: list[StoredCounts] = []
        stored = self._write(
            lambda: counts.append(replace_segment(self.engine, row, rows)),
            lambda spool: spool.put_segment(row, rows),
        )
        if stored and closed_at is not None:
            lag = datetime.now(UTC) - closed_at
            lag_ms = round(lag.total_seconds() * 1000)
            self._commit(lambda connection: record_lag(connection, row, lag_ms=lag_ms))
        return counts[0] if counts else None

    def recorded(self, segment: Segment) -> None:
        """Note that a segment is on disk and not analysed: for a replay."""
        row = self._row(segment)
        self._write(
            lambda: commit(self.engine, lambda connection: record_segment(connection, row)),
            lambda spool: spool.put_recorded(row),
        )

    def failed(self, segment: Segment, error: str) -> None:
        """Note that a segment could not be analysed, and why."""
        row = self._row(segment)
        self._write(
            lambda: commit(self.engine, lambda connection: fail_segment(connection, row, error)),
            lambda spool: spool.put_failure(row, error),
        )

    def gap(self, gap: Gap) -> None:
        """Note a stretch that was not recorded, and why."""
        values: dict[str, Any] = {
            "channel_id": self.channel_id,
            "broadcast_id": self.broadcast_id,
            "started_at": gap.start,
            "ended_at": gap.end,
            "why": gap.why,
        }
        self._write(
            lambda: commit(self.engine, lambda connection: record_gap(connection, **values)),
            lambda spool: spool.put_gap(**values),
        )

    def catch_up(self) -> bool:
        """Write what waits, now; tell whether nothing does any more."""
        if self.spool is None:
            return True
        try:
            n_writes = self.spool.write(self.engine)
        except PASSING as e:
            self._try_again_at = time.monotonic() + RETRY_S
            _log.warning("%d writes wait: %s", len(self.spool.waiting()), e)
            return False
        if n_writes:
            _log.info("%d writes that had to wait are done", n_writes)
        return True

    def _write(self, now: Callable[[], object], later: Callable[[Spool], None]) -> bool:
        """Write now, after all that waits; or have it wait too. Tell whether it was written."""
        if self.spool is None:
            now()
            return True
        if time.monotonic() >= self._try_again_at and self.catch_up():
            try:
                now()
            except PASSING as e:
                self._try_again_at = time.monotonic() + RETRY_S
                _log.warning("the write waits in %s: %s", self.spool.directory, e)
            else:
                return True
        later(self.spool)
        return False

    def _commit(self, write: Callable[[Connection], None]) -> None:
        """Write what is nice to know: it is not worth a show."""
        try:
            commit(self.engine, write)
        except DatabaseError as e:
            _log.warning("%s", e)

    def _row(self, segment: Segment) -> SegmentRow:
        return SegmentRow(
            channel_id=self.channel_id,
            broadcast_id=self.broadcast_id,
            sequence=segment.sequence,
            started_at=segment.start,
            duration_s=segment.duration_s,
            start_is_estimated=segment.start_is_estimated,
            path=str(segment.path),
            offset_s=segment.offset_s,
            width_px=segment.width_px,
            height_px=segment.height_px,
            model=self.model or None,
        )
