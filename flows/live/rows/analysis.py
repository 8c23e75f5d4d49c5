"""Segments to rows: each is analysed, linked and stored in order. Independent of Prefect."""

import logging
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from emotion.types import EmotionError, Frames, Observations
from flows.capture.segment import Gap, Segment
from flows.live.rows.observers import Observer
from flows.live.rows.pace import Level, Pace
from flows.live.rows.store import Store

if TYPE_CHECKING:
    from emotion.analyser import Parts
    from emotion.pipeline import Analyser, Linker

MINUTE_S: Final = 60.0

_SLACK_S: Final = 10.0
_BEGUN: Final = 2  # segments that are being decoded or analysed at once


class Source(Protocol):
    """The source of segments: a live capture."""

    @property
    def finished(self) -> bool:
        """Whether it has ended and is empty."""

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None when there is none within `timeout_s`."""


@cache
def networks(
    detector: str,
    emotion_model: str,
    device: str,
    cache_dir: Path | None,
    longest_side_px: int | None,
    everywhere: bool = False,
) -> "Analyser":
    """Return the networks, loaded once a process."""
    # Imported here: torch takes seconds, and recording must begin before.
    from emotion.pipeline import Analyser

    return Analyser(
        detector=detector,
        emotion_model=emotion_model,
        device=device,
        cache_dir=cache_dir,
        longest_side_px=longest_side_px,
        everywhere=everywhere,
    )


@dataclass(kw_only=True, slots=True)
class Counts:
    """Counts of a watch so far."""

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

    def summary(self, before: "Counts | None" = None) -> str:
        """Return the counts as a line of text; before: count only what came after this copy."""
        before = before or Counts()
        line = (
            f"{self.segments - before.segments} segments, {self.frames - before.frames} frames, "
            f"{self.observations - before.observations} faces"
        )
        line += f", {self.lag_s:.1f} s behind" if self.lag_s is not None else ""
        for n, what in (
            (self.failed - before.failed, "segments failed"),
            (self.gaps - before.gaps, "gaps"),
        ):
            line += f", {n} {what}" if n else ""
        return line


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """A segment that was taken but is not stored yet. parts: its frames, decoded on demand."""

    item: Segment | Gap
    level: Level
    closed_at: datetime
    parts: "Parts | None" = None


@dataclass(kw_only=True, slots=True)
class Analysis:
    """Analyses a broadcast's segments in order, with the tracks' state from one to the next.

    While a segment is analysed, the next one is decoded.
    """

    analyser: "Analyser"
    linker: "Linker"
    store: Store
    fps: float
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]
    counts: Counts = field(default_factory=Counts)
    pace: Pace = field(default_factory=Pace)
    observer: Observer = field(default_factory=Observer)
    _begun: deque[_Begun] = field(default_factory=deque, init=False)
    _tried: tuple[_Begun, dict[str, Any]] | None = field(default=None, init=False)
    """The last segment whose analysis began, and the tracks' state before it."""

    @property
    def n_begun(self) -> int:
        """Return the number of segments and gaps begun but not finished."""
        return len(self._begun)

    def take(self, item: Segment | Gap) -> None:
        """Begin a segment or gap, and finish it and those begun before."""
        self.begin(item)
        while self._begun:
            self.finish()

    def begin(self, item: Segment | Gap) -> None:
        """Begin to decode a segment, with as many frames as the pace allows now."""
        self._begun.append(self._decode(item))

    def _decode(self, item: Segment | Gap) -> _Begun:
        level = self.pace.level
        if isinstance(item, Gap):
            return _Begun(item=item, level=level, closed_at=item.end)
        closed_at = _closed_at(item.path)
        parts = self.analyser.decode(
            item.path,
            fps=self.fps / level.divisor,
            skip=level.skip,
            longest_s=longest_of(item),
            lead=item.lead,
        )
        return _Begun(item=item, level=level, closed_at=closed_at, parts=parts)

    def finish(self) -> None:
        """Analyse, link and store the oldest segment that was begun, or store the gap.

        A segment that cannot be analysed is stored as failed, with its error. One that an error or
        a signal interrupted is still the oldest, and is repeated from its file with the tracks'
        state before it.
        """
        begun = self._begun[0]
        if self._tried is not None and self._tried[0] is begun:
            self.linker = type(self.linker)(self._tried[1])
            begun = self._begun[0] = self._decode(begun.item)
        self._tried = begun, self.linker.state
        self._finish(begun)

    def close(self) -> None:
        """Drop segments that were begun but are not stored."""
        for begun in self._begun:
            if begun.parts is not None:
                begun.parts.close()
        self._begun.clear()

    def _finish(self, begun: _Begun) -> None:
        if isinstance(begun.item, Gap):
            gap = begun.item
            self.store.gap(gap)
            self._begun.popleft()
            self.counts.gaps += 1
            self.log.warning("nothing recorded from %s to %s: %s", gap.start, gap.end, gap.why)
            self.observer.took(gap, None, self.counts)
            return
        assert begun.parts is not None
        try:
            observations = self._finish_segment(begun.item, begun, begun.parts)
        finally:
            begun.parts.close()
        self.observer.took(begun.item, observations, self.counts)

    def _finish_segment(
        self, segment: Segment, begun: _Begun, parts: "Parts"
    ) -> Observations | None:
        try:
            detections = self.analyser.analyse_parts(
                frames_from(part, segment.offset_s) for part in parts
            )
        except (EmotionError, OSError) as e:
            self.store.failed(segment, str(e))
            self._begun.popleft()
            self.counts.failed += 1
            self.log.warning("segment at %s not analysed: %s", segment.start, e)
            return None
        n_frames = len(detections.offset_s)
        observations = self.linker.update(detections, segment.start)
        self.store.analysed(
            segment,
            observations,
            frames=n_frames,
            fps=self._fps(begun.level, n_frames, segment.duration_s),
            tracker_state=self.linker.state,
            closed_at=begun.closed_at,
        )
        # Stored: after a signal it must not be linked again.
        self._begun.popleft()
        lag = datetime.now(UTC) - begun.closed_at
        self.counts.add(segments=1, frames=n_frames, observations=len(observations))
        self.counts.lag_s = lag.total_seconds()
        self.counts.newest = segment.end
        if self.pace.update(lag.total_seconds(), segment.duration_s):
            log = self.log.info if self.pace.is_full else self.log.warning
            log("%.1f s behind: now %s", lag.total_seconds(), self.pace.level.name)
        return observations

    def _fps(self, level: Level, n_frames: int, duration_s: float) -> float:
        """Return the analysed frames a second; with keyframes only, from their number."""
        if level.skip == "nonkey":
            return min(self.fps, round(n_frames / duration_s, 3))
        return self.fps / level.divisor


def longest_of(segment: Segment) -> float:
    """Return the longest allowed length of a segment's file, in seconds.

    The source's clock and the file's may differ, but a decompression bomb differs by more.
    """
    return segment.offset_s + 2 * segment.duration_s + _SLACK_S


def frames_from(frames: Frames, offset_s: float) -> Frames:
    """Return the frames from an offset on, with offsets relative to it."""
    if offset_s == 0:
        return frames
    kept = frames.offset_s >= offset_s
    return replace(frames, images=frames.images[kept], offset_s=frames.offset_s[kept] - offset_s)


def _closed_at(path: Path) -> datetime:
    """Return when the file was finished; now, if it is deleted."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def take_for(analysis: Analysis, source: Source, minute_s: float = MINUTE_S) -> None:
    """Analyse the source's segments for minute_s seconds, or until its end."""
    end = time.monotonic() + minute_s
    while not source.finished and (left_s := end - time.monotonic()) > 0:
        item = source.get(0.0 if analysis.n_begun else left_s)
        if item is not None:
            analysis.begin(item)
        if analysis.n_begun >= (1 if item is None else _BEGUN):
            analysis.finish()
    while analysis.n_begun:
        analysis.finish()
