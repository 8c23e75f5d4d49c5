"""Segments and observations to rows: the only place that knows both `emotion` and `db`."""

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
"""A database that did not answer is left alone for so long: a show must not wait for it."""


@dataclass(kw_only=True, slots=True)
class Store:
    """Writes one broadcast.

    model: of the segments; empty until the networks are there. spool: where writes wait while the
    database is away, in order; without one they raise. settled: `keys` of the segments and gaps
    that are stored, or wait to be. What could do neither is in the recording's journal still,
    where `left` finds it. machine: whose disk the segments are on. copies_dir: where files lie for
    a while that are on another's: of them the rows keep the place that they name.
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
    """Whether something could neither be stored nor wait, also not by the last `leave`."""
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
        """Note that a segment is on disk and not analysed: for a replay."""
        row = self._row(segment)
        self._write(
            segment,
            lambda: commit(self.engine, lambda connection: record_segment(connection, row)),
            lambda spool: spool.put_recorded(row),
        )

    def failed(self, segment: Segment, error: str) -> None:
        """Note that a segment could not be analysed, and why."""
        row, error = self._row(segment), plain(error)
        self._write(
            segment,
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
            gap,
            lambda: commit(self.engine, lambda connection: record_gap(connection, **values)),
            lambda spool: spool.put_gap(**values),
        )

    def left(self, directory: Path) -> list[Segment | Gap]:
        """Return what was recorded in a directory and is neither stored nor waits to be."""
        return [item for item in read_events(directory) if _key(item) not in self.settled]

    def leave(self, items: Iterable[Segment | Gap]) -> int:
        """Store what is not analysed now as recorded, for a replay; return how many segments.

        One whose file is gone has failed.
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

    def _write(
        self, item: Segment | Gap, now: Callable[[], object], later: Callable[[Spool], None]
    ) -> bool:
        """Write now, after all that waits; or have it wait too. Tell whether it was written."""
        if self.spool is None:
            now()
            self.settled.add(_key(item))
            return True
        if time.monotonic() >= self._try_again_at and self.catch_up():
            try:
                now()
            except PASSING as e:
                self._try_again_at = time.monotonic() + RETRY_S
                _log.warning("the write waits in %s: %s", self.spool.directory, e)
            else:
                self.settled.add(_key(item))
                return True
        try:
            later(self.spool)
        except OSError as e:  # a full disk, mostly: the show goes on, and `left` has it
            self.owes = True
            _log.error("what was seen at %s can't wait on disk: %s", item.start, e)
        else:
            self.settled.add(_key(item))
        return False

    def _commit(self, write: Callable[[Connection], None]) -> None:
        """Write what is nice to know: it is not worth a show."""
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
    """Return the analysed frames, microseconds after the segment's start; None if not told."""
    if len(observations.frames) != frames:
        return None
    offsets: list[int] = (
        (observations.frames - to_microseconds(segment.start)).astype(np.int64).tolist()
    )
    return offsets


def keys(segments: Iterable[datetime] = (), gaps: Iterable[datetime] = ()) -> set[Key]:
    """Return what tells segments and gaps that begin then; numbers would not, of two machines."""
    return {*(("segment", start) for start in segments), *(("gap", start) for start in gaps)}


def _key(item: Segment | Gap) -> Key:
    return ("gap" if isinstance(item, Gap) else "segment"), item.start
