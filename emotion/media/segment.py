"""The frames of one segment of a live stream, also without a keyframe at its start.

A source may cut between keyframes: a segment's first pictures then refer to those of the
segments before, which are decoded first and discarded. The result depends only on the bytes
of these files.
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
"""Microseconds at the start that may be undecodable without more lead: an open GOP."""


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
    """Yield the frames of `video.read_frames` in parts of about `part_px` pixels, at least one.

    The limits of a segment apply; longer files than `longest_s` are refused.
    A truncated segment gives the frames that can be decoded.

    lead: the files recorded before it without a gap, in order. They are decoded first, from the
    newest keyframe that makes the segment's first pictures decodable.

    At least one part is yielded, possibly empty. With `skip="nonkey"` a file without a keyframe
    gives an empty part if it has a lead; without a lead it is decoded as with "nonref".
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
    """Return the number of lead files to try next: at least twice `n`, from one with a keyframe."""
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
