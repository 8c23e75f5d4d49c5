"""Segments to rows: each analysed, linked and stored at once. Knows nothing of Prefect."""

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from emotion.pipeline import Analyser, Linker
from emotion.types import EmotionError, Frames, Observations
from emotion.video import read_frames
from flows.audience import Audience
from flows.capture.segment import Gap, Segment
from flows.store import Store

MINUTE_S: Final = 60.0
FALLING_BEHIND: Final = 2.0
"""Take fewer frames when a segment has waited for more than so many segments' time."""
CAUGHT_UP: Final = 0.5
"""Take more frames again when it has waited for less than this."""
SLOWEST: Final = 8.0
"""Never take fewer than this fraction of the frames asked for."""


class Source(Protocol):
    """What segments are taken from: a live capture."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None when there is none within `timeout_s`."""


@cache
def networks(
    detector: str,
    emotion_model: str,
    device: str,
    cache_dir: Path | None,
    longest_side_px: int | None,
) -> Analyser:
    """Return the networks, loaded once a process."""
    return Analyser(
        detector=detector,
        emotion_model=emotion_model,
        device=device,
        cache_dir=cache_dir,
        longest_side_px=longest_side_px,
    )


@dataclass(kw_only=True, slots=True)
class Counts:
    """What was done so far."""

    segments: int = 0
    failed: int = 0
    gaps: int = 0
    frames: int = 0
    observations: int = 0
    lag_s: float | None = None
    newest: datetime | None = None

    def add(self, *, segments: int, frames: int, observations: int) -> None:
        """Count what was stored."""
        self.segments += segments
        self.frames += frames
        self.observations += observations

    def said(self, before: "Counts | None" = None) -> str:
        """Say in a line what was done, in all or after `before` was copied."""
        before = before or Counts()
        said = (
            f"{self.segments - before.segments} segments, {self.frames - before.frames} frames, "
            f"{self.observations - before.observations} faces"
        )
        said += f", {self.lag_s:.1f} s behind" if self.lag_s is not None else ""
        for n, what in (
            (self.failed - before.failed, "segments failed"),
            (self.gaps - before.gaps, "gaps"),
        ):
            said += f", {n} {what}" if n else ""
        return said


@dataclass(kw_only=True, slots=True)
class Analysis:
    """Takes a broadcast's segments in order, and carries what passes from one to the next."""

    analyser: Analyser
    linker: Linker
    store: Store
    fps: float
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]
    counts: Counts = field(default_factory=Counts)
    divisor: float = 1.0
    audience: Audience = field(default_factory=Audience)

    def take(self, item: Segment | Gap) -> None:
        """Analyse, link and store a segment, or store a gap.

        A segment that cannot be analysed is stored as failed with its cause; the show goes on.
        """
        if isinstance(item, Gap):
            self.store.gap(item)
            self.counts.gaps += 1
            self.log.warning("nothing recorded from %s to %s: %s", item.start, item.end, item.why)
            self.audience.took(item, None, self.counts)
            return
        self.audience.took(item, self._take_segment(item), self.counts)

    def _take_segment(self, segment: Segment) -> Observations | None:
        fps = self.fps / self.divisor
        closed_at = _closed_at(segment.path)
        try:
            frames = _from(
                read_frames(segment.path, fps=fps, longest_side_px=self.analyser.longest_side_px),
                segment.offset_s,
            )
            detections = self.analyser.analyse(frames)
        except (EmotionError, OSError) as e:
            self.store.failed(segment, str(e))
            self.counts.failed += 1
            self.log.warning("segment at %s not analysed: %s", segment.start, e)
            return None
        observations = self.linker.update(detections, segment.start)
        self.store.analysed(
            segment,
            observations,
            frames=len(frames),
            fps=fps,
            tracker_state=self.linker.state,
            closed_at=closed_at,
        )
        lag = datetime.now(UTC) - closed_at
        self.counts.add(segments=1, frames=len(frames), observations=len(observations))
        self.counts.lag_s = lag.total_seconds()
        self.counts.newest = segment.end
        self._pace(lag, segment.duration_s)
        return observations

    def _pace(self, lag: timedelta, duration_s: float) -> None:
        waited = lag.total_seconds() / duration_s
        if waited > FALLING_BEHIND and self.divisor < SLOWEST:
            self.divisor *= 2
            self.log.warning(
                "%.1f s behind: now %.2g frames a second",
                lag.total_seconds(),
                self.fps / self.divisor,
            )
        elif waited < CAUGHT_UP and self.divisor > 1:
            self.divisor /= 2
            self.log.info("caught up: now %.2g frames a second", self.fps / self.divisor)


def _from(frames: Frames, offset_s: float) -> Frames:
    """Return the frames from there on, counted from there."""
    if offset_s == 0:
        return frames
    kept = frames.offset_s >= offset_s
    return replace(frames, images=frames.images[kept], offset_s=frames.offset_s[kept] - offset_s)


def _closed_at(path: Path) -> datetime:
    """Return when the file was finished; now, for one that is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def take_for(analysis: Analysis, source: Source, minute_s: float = MINUTE_S) -> None:
    """Take what the source brings, for so long or until it has no more."""
    end = time.monotonic() + minute_s
    while not source.finished:
        left_s = end - time.monotonic()
        if left_s <= 0:
            return
        item = source.get(left_s)
        if item is not None:
            analysis.take(item)
