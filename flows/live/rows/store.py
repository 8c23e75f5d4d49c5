"""Converts segments and observations into rows; the only module with both `emotion` and `db`."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from sqlalchemy import Connection, Engine

from db.errors import DatabaseError
from db.writing.replacing import replace_segment
from db.writing.rows import ObservationRows, SegmentRow, StoredCounts, to_microseconds
from db.writing.spool import PASSING, Spool, commit, replace_uncovered
from db.writing.writes import fail_segment, record_gap, record_lag, record_segment
from emotion.types import Observations
from flows.capture.plain import plain
from flows.capture.recorded.journal import read_events
from flows.capture.segment import Gap, Segment

_log = logging.getLogger(__name__)

Key = tuple[Literal["segment", "gap"], datetime]

RETRY_S: Final = 5.0
"""Seconds before a database that did not answer is tried again: a show must not wait for it."""


@dataclass(kw_only=True, slots=True)
class Store:
    """Writes one broadcast's rows.

    model: of the segments; empty until the networks are loaded. spool: queue on disk for writes
    while the database is away; without one they raise. settled: `keys` of the segments and gaps
    that are stored or queued. Others are still in the recording's journal, where `left` finds them.
    machine: the one with the segments' files. copies_dir: cache of other machines' files; rows of
    such segments keep their path and machine.
    """

    engine: Engine
    channel_id: int
    broadcast_id: int
    model: str
    spool: Spool | None = None
    settled: set[Key] = field(default_factory=set)
    machine: str | None = None
    copies_dir: Path | None = None
    owes: bool = field(default=False, init=False)
    """Whether a write could neither be stored nor queued, also not by the last `leave`."""
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
        """Replace exactly this segment's rows, in one transaction; None if that is queued.

        closed_at: when the segment's file was finished, for the lag; None for a recording.
        """
        row = replace(
            self._row(segment),
            frames_analysed=frames,
            analysed_fps=fps,
            tracker_state=tracker_state,
            frames_us=_frames_us(segment, observations, frames),
        )
        rows = ObservationRows(
            ts=observations.ts,
            track=observations.track,
            boxes=observations.boxes,
            scores=observations.scores,
            probs=observations.probs,
            smoothed=observations.smoothed,
            affect=observations.affect,
            pose=observations.pose,
            shots=observations.shots,
            seen_before=observations.seen_before,
        )
        counts: list[StoredCounts] = []
        stored = self._write(
            segment,
            lambda: counts.extend(self._replace(row, rows)),
            lambda spool: spool.put_segment(row, rows),
        )
        if stored and closed_at is not None:
            lag = datetime.now(UTC) - closed_at
            lag_ms = round(lag.total_seconds() * 1000)
            self._commit(lambda connection: record_lag(connection, row, lag_ms=lag_ms))
        return counts[0] if counts else None

    def _replace(self, row: SegmentRow, rows: ObservationRows) -> list[StoredCounts]:
        """Replace a segment's rows; once the database was away, not what others have stored."""
        if self._try_again_at:
            return replace_uncovered(self.engine, row, rows)
        return [replace_segment(self.engine, row, rows)]

    def recorded(self, segment: Segment) -> None:
        """Store that a segment is recorded but not analysed, for a replay."""
        row = self._row(segment)
        self._write(
            segment,
            lambda: commit(self.engine, lambda connection: record_segment(connection, row)),
            lambda spool: spool.put_recorded(row),
        )

    def failed(self, segment: Segment, error: str) -> None:
        """Store that a segment could not be analysed, and why."""
        row, error = self._row(segment), plain(error)
        self._write(
            segment,
            lambda: commit(self.engine, lambda connection: fail_segment(connection, row, error)),
            lambda spool: spool.put_failure(row, error),
        )

    def gap(self, gap: Gap) -> None:
        """Store a gap and its reason."""
        values: dict[str, Any] = {
            "channel_id": self.channel_id,
            "broadcast_id": self.broadcast_id,
            "started_at": gap.start,
            "ended_at": gap.end,
            "why": gap.why,
        }
        self._write(
            gap,
            lambda: commit(self.engine, lambda connection: record_gap(connection, **values)),
            lambda spool: spool.put_gap(**values),
        )

    def left(self, directory: Path) -> list[Segment | Gap]:
        """Return recorded segments and gaps of a directory that are neither stored nor queued."""
        return [item for item in read_events(directory) if _key(item) not in self.settled]

    def leave(self, items: Iterable[Segment | Gap]) -> int:
        """Store segments as recorded but not analysed, for a replay; return how many.

        A segment whose file is deleted is stored as failed.
        """
        n_segments, self.owes = 0, False
        for item in items:
            if isinstance(item, Gap):
                self.gap(item)
            elif item.path.exists():
                self.recorded(item)
                n_segments += 1
            else:
                self.failed(item, "its file is gone")
        return n_segments

    def catch_up(self) -> bool:
        """Apply the queued writes; return whether none is left."""
        if self.spool is None:
            return True
        try:
            n_writes = self.spool.write(self.engine)
        except PASSING as e:
            self._try_again_at = time.monotonic() + RETRY_S
            _log.warning("%d writes are queued on disk: %s", len(self.spool.waiting()), e)
            return False
        if n_writes:
            _log.info("%d queued writes are done", n_writes)
        return True

    def _write(
        self, item: Segment | Gap, now: Callable[[], object], later: Callable[[Spool], None]
    ) -> bool:
        """Write after all queued writes, or queue it, too; return whether it was written."""
        if self.spool is None:
            now()
            self.settled.add(_key(item))
            return True
        if time.monotonic() >= self._try_again_at and self.catch_up():
            try:
                now()
            except PASSING as e:
                self._try_again_at = time.monotonic() + RETRY_S
                _log.warning("the write is queued in %s: %s", self.spool.directory, e)
            else:
                self.settled.add(_key(item))
                return True
        try:
            later(self.spool)
        except OSError as e:  # mostly a full disk; `left` finds the segment later
            self.owes = True
            _log.error("the rows of %s can't be queued on disk; will retry: %s", item.start, e)
        else:
            self.settled.add(_key(item))
        return False

    def _commit(self, write: Callable[[Connection], None]) -> None:
        """Write optional values; an error is only logged."""
        try:
            commit(self.engine, write)
        except DatabaseError as e:
            _log.warning("%s", e)

    def _row(self, segment: Segment) -> SegmentRow:
        is_copy = self.copies_dir is not None and segment.path.is_relative_to(self.copies_dir)
        return SegmentRow(
            channel_id=self.channel_id,
            broadcast_id=self.broadcast_id,
            sequence=segment.sequence,
            started_at=segment.start,
            duration_s=segment.duration_s,
            start_is_estimated=segment.start_is_estimated,
            path=None if is_copy else str(segment.path),
            machine=None if is_copy else self.machine,
            offset_s=segment.offset_s,
            width_px=segment.width_px,
            height_px=segment.height_px,
            is_ad=segment.is_ad,
            needs=list(segment.needs) or None,
            model=self.model or None,
        )


def _frames_us(segment: Segment, observations: Observations, frames: int) -> list[int] | None:
    """Return the analysed frames, microseconds after the segment's start; None if unknown."""
    if len(observations.frames) != frames:
        return None
    offsets: list[int] = (
        (observations.frames - to_microseconds(segment.start)).astype(np.int64).tolist()
    )
    return offsets


def keys(segments: Iterable[datetime] = (), gaps: Iterable[datetime] = ()) -> set[Key]:
    """Return the keys of segments and gaps by their starts; two machines may use one number."""
    return {*(("segment", start) for start in segments), *(("gap", start) for start in gaps)}


def _key(item: Segment | Gap) -> Key:
    return ("gap" if isinstance(item, Gap) else "segment"), item.start
