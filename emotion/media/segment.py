"""The frames of one segment of a live stream, also where it begins amid pictures.

A source may cut where no keyframe is: a segment's first pictures then refer to those of the
segments before, which are decoded first and given to nobody. What comes is a function of the bytes
of both.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import av

from emotion.media.decode import Reader, Skip
from emotion.media.limits import SEGMENT
from emotion.media.pictures import US
from emotion.media.streams import Truncated, VideoError, open_video
from emotion.media.video import Collected
from emotion.types import Frames

_LATE_US: Final = US // 4
"""Pictures that are missed at the beginning for less than this are those of an open GOP."""


def read_parts(
    path: Path,
    *,
    fps: float,
    longest_side_px: int,
    part_px: int,
    skip: Skip = "needless",
    longest_s: float | None = None,
    lead: Sequence[Path] = (),
) -> Iterator[Frames]:
    """Yield the frames of `video.read_frames` in parts of about `part_px` pixels, one at least.

    It is a segment: what holds more than one can, or goes on for more than `longest_s`, is refused.
    One that is cut off gives what can be decoded.

    lead: what was recorded before it without a break, in order. As much of it is decoded first as
    the segment's first pictures need, from the newest keyframe on from which they can be had.

    At least one part comes, if an empty one. A file without any keyframe is decoded as far as it
    can be, whatever `skip` says; not where that takes its lead, of which keyframes alone can do
    without.
    """
    there = [each for each in lead if each.is_file()]
    n_lead = 0
    while True:
        is_last = n_lead >= len(there) or skip == "nonkey"
        n_parts = 0
        with open_video(path, limits=SEGMENT) as (container, stream):
            reader = Reader(path, container, stream, limits=SEGMENT, longest_s=longest_s)
            if n_lead:
                reader.prime(there[-n_lead:])
            collected = Collected(reader, fps, longest_side_px)
            is_late = False
            try:
                for picture in reader.pictures(fps, skip):
                    if not (collected.began or is_last) and picture.offset_us > _LATE_US:
                        is_late = True
                        break
                    collected.add(picture)
                    if collected.pixels >= part_px:
                        n_parts += 1
                        yield collected.frames(0)
            except Truncated:
                if is_last and not collected.began and skip != "nonkey":
                    raise
            if len(collected) or (collected.began and not n_parts):
                n_parts += 1
                yield collected.frames(0)
        if n_parts and not is_late:
            return
        if is_last:
            break
        n_lead = _more_lead(there, n_lead)
    if skip != "nonkey":
        raise VideoError(f"{path}: no picture in it can be decoded")
    if there:
        yield collected.nothing()
        return
    yield from read_parts(
        path,
        fps=fps,
        longest_side_px=longest_side_px,
        part_px=part_px,
        skip="nonref",
        longest_s=longest_s,
    )


def _more_lead(lead: Sequence[Path], n: int) -> int:
    """Return how many files to try next: twice as many, and on to the next with a keyframe."""
    most = len(lead)
    for more in range(max(n + 1, 2 * n), most):
        if _has_keyframe(lead[most - more]):
            return more
    return most


def _has_keyframe(path: Path) -> bool:
    try:
        with open_video(path, limits=SEGMENT) as (container, stream):
            return any(packet.is_keyframe for packet in container.demux(stream) if packet.size)
    except (VideoError, av.error.FFmpegError):
        return False
