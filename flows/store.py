"""Segments and observations to rows: the only place that knows both `emotion` and `db`."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from db.replacing import replace_segment
from db.rows import ObservationRows, SegmentRow, StoredCounts
from db.writes import fail_segment, record_gap, record_lag
from emotion.types import Observations
from flows.capture.segment import Gap, Segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Writes one broadcast."""

    engine: Engine
    channel_id: int
    broadcast_id: int
    model: str

    def analysed(
        self,
        segment: Segment,
        observations: Observations,
        *,
        frames: int,
        fps: float,
        tracker_state: dict[str, Any],
        closed_at: datetime | None = None,
    ) -> StoredCounts:
        """Replace exactly this segment's rows, in one transaction.

        closed_at: when the segment's file was finished, for the lag; None for a recording.
        """
        row = replace(
            self._row(segment),
            frames_analysed=frames,
            analysed_fps=fps,
            tracker_state=tracker_state,
        )
        stored = replace_segment(
            self.engine,
            row,
            ObservationRows(
                ts=observations.ts,
                track=observations.track,
                boxes=observations.boxes,
                scores=observations.scores,
                probs=observations.probs,
                smoothed=observations.smoothed,
            ),
        )
        if closed_at is not None:
            lag = datetime.now(UTC) - closed_at
            with self.engine.begin() as connection:
                record_lag(connection, row, lag_ms=round(lag.total_seconds() * 1000))
        return stored

    def failed(self, segment: Segment, error: str) -> None:
        """Note that a segment could not be analysed, and why."""
        with self.engine.begin() as connection:
            fail_segment(connection, self._row(segment), error)

    def gap(self, gap: Gap) -> None:
        """Note a stretch that was not recorded, and why."""
        with self.engine.begin() as connection:
            record_gap(
                connection,
                channel_id=self.channel_id,
                broadcast_id=self.broadcast_id,
                started_at=gap.start,
                ended_at=gap.end,
                why=gap.why,
            )

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
            model=self.model,
        )
