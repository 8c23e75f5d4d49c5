"""Cuts a time range of recordings into a file: which segments it has, and where it begins."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from flows.capture.segment import Segment
from flows.errors import UsageError
from flows.objects.cache import Copies
from flows.recordings.finding import Found, find, local_time, nothing_recorded, spans_between
from flows.recordings.remux import (
    Cut,
    file_start,
    open_segment,
    require_absent,
    write_cuts,
)
from flows.recordings.segment_audio import bring_audio, seconds_of

BEFORE: Final = timedelta(seconds=30)
"""How far before the requested start a keyframe is searched."""

MAX_CLIP: Final = timedelta(hours=12)


def clip(
    engine: Engine,
    channel: str,
    begin: datetime,
    end: datetime,
    out: Path,
    *,
    recordings_dir: Path,
    machine: str | None = None,
    copies: Copies | None = None,
    force: bool = False,
) -> list[Cut]:
    """Cut [begin, end) of a channel's recordings into an MP4 file; return what was cut.

    It begins at the keyframe before. What was not recorded is left out. Where the format of
    video or audio changes (size, codec), the rest goes into `out` with -2, -3 before its suffix. A
    broadcast on air is cut as far as it is recorded.

    Raises UsageError when nothing was recorded then, or a file is there already and `force` is
    not given; UnknownChannel; OSError.
    """
    if end <= begin:
        raise UsageError(
            f"a clip must end after it begins: not {local_time(begin)} to {local_time(end)}"
        )
    if end - begin > MAX_CLIP:
        raise UsageError(f"a clip of more than {MAX_CLIP.total_seconds() / 3600:.0f} hours")
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"{out}: the name must end in .mp4, the only format")
    require_absent(out, force)
    where: dict[str, Any] = {"recordings_dir": recordings_dir, "machine": machine, "copies": copies}
    found = find(engine, channel, begin - BEFORE, end, **where)
    wanted = [segment for segment in found.segments if segment.end > begin]
    if not wanted:
        there = find(engine, channel, begin, end, **where)
        raise nothing_recorded(engine, channel, begin, end, there)
    if copies is not None:
        for segment in found.segments:
            copies.bring(segment.path, segment.needs)
        bring_audio(copies, found.segments)
    return cut_found(found, begin, end, out, force=force)


def cut_found(
    found: Found, begin: datetime, end: datetime, out: Path, *, force: bool = False
) -> list[Cut]:
    """Cut [begin, end) out of what was found from BEFORE before it on; see `clip`."""
    wanted = [segment for segment in found.segments if segment.end > begin]
    leading = [segment for segment in found.segments if segment.end <= begin]
    first = _first_keyframe(leading, wanted[0], begin)
    segments = [segment for segment in found.segments if segment.end > first]
    whys = {(gap.start, gap.end): gap.why for gap in found.gaps}
    gaps = tuple(
        (start, stop, whys.get((start, stop), "the recording is gone" if found.gone else "unknown"))
        for start, stop in spans_between(segments)
    )
    return list(write_cuts(segments, first, end, out, gaps=gaps, force=force))


def _first_keyframe(leading: Sequence[Segment], first: Segment, begin: datetime) -> datetime:
    """Return the date of the last keyframe up to `begin`, or else of the first one after."""
    later: datetime | None = None
    joined = [first]
    for segment in reversed(leading):
        if (joined[0].start - segment.end).total_seconds() >= 0.1:
            break
        joined.insert(0, segment)
    for segment in reversed(joined):
        dates = _keyframes(segment)
        before = [date for date in dates if date <= begin + timedelta(milliseconds=1)]
        if before:
            return max(before)
        later = min(dates, default=later)
    return later or first.start


def _keyframes(segment: Segment) -> list[datetime]:
    with open_segment(segment) as media:
        video = media.streams.video[0]
        packets = [p for p in media.demux(video) if p.pts is not None]
        first_s = min((seconds_of(p) for p in packets), default=0.0)
        start = file_start(segment)
        dates = [
            start + timedelta(seconds=seconds_of(p) - first_s) for p in packets if p.is_keyframe
        ]
    return [date for date in dates if date >= segment.start - timedelta(milliseconds=1)]
