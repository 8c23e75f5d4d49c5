"""Reads the time range and properties of a media file from its packets."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer

from emotion.media.limits import SEGMENT, TooMuch, options, require_bounded
from emotion.media.streams import begins_anew, best_video, has_parameters, moving
from flows.capture.recorded.ending import read_ending
from flows.capture.segment import NoPicture, UnreadableMedia

TICKS_PER_S: Final = 90_000
"""The clock of MPEG-TS (ISO/IEC 13818-1, 2.4.3.6)."""

WRAP: Final = 1 << 33
"""Ticks after which its 33-bit counter wraps around."""

# The first packet's header is enough; the default would read up to five seconds.
_SHORT_PROBE: Final = {
    "probesize": "200000",
    "analyzeduration": "0",
    "skip_frame": "all",
} | options(SEGMENT)

_ONLY_FILE: Final = {"protocol_whitelist": "file"}
_LONG_PROBE: Final = {"skip_frame": "all"} | options(SEGMENT)

_REORDERED: Final = 16
"""Most packets before the one displayed first, or before the one displayed next (H.264 and HEVC,
Annex A).
"""

_MAX_DECODING_S: Final = 3.0
"""Longest that a segment is decoded to see whether it ends with a whole picture."""

_MIN_TICKS: Final = TICKS_PER_S // 1000
_MAX_TICKS: Final = 600 * TICKS_PER_S
"""Longest segment."""

_SHORTEST_TICKS: Final = TICKS_PER_S // 300
"""Shorter times between frames are no rate."""

_EARLY_TICKS: Final = TICKS_PER_S
"""Audio that ends before the first frame by at most so much is on the same timeline: it is too
short, as where a segment is cut off after its first packets.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The time range of a file's video; all times in ticks of 90 kHz.

    first: of the frame displayed first. end: of the last frame, plus its duration. interval: time
    between frames, as the lower quartile, which missing frames do not lengthen. hole: where frames
    may be missing since the file was cut off amid frames that are stored in another order than they
    are shown; None if none can be. longest: longest time between frames, before that hole.
    begins_with_key: with a keyframe. stands_alone: neither it nor later pictures refer to pictures
    before it. sound_first, sound_end: of the audio, or `first`; None without an audio stream.
    lasts: until the next segment's first frame; None if that is not known. n_videos: number of
    video streams. is_whole, counters, next_counters: see `Ending`. early: ticks
    by which the frame displayed first precedes the first packet's.
    """

    first: int
    end: int
    interval: int
    longest: int
    width_px: int
    height_px: int
    begins_with_key: bool = True
    stands_alone: bool = True
    hole: int | None = None
    sound_first: int | None = None
    sound_end: int | None = None
    lasts: int | None = None
    n_videos: int = 1
    is_whole: bool = True
    counters: Mapping[int, int] = field(default_factory=dict)
    next_counters: Mapping[int, int] = field(default_factory=dict)
    early: int = 0

    @property
    def video_s(self) -> float:
        """Length of the video in seconds."""
        return (self.end - self.first) / TICKS_PER_S

    @property
    def sound_s(self) -> float | None:
        """Length of the audio from the first frame on, in seconds; None without audio."""
        if self.sound_end is None:
            return None
        length = self.sound_end - self.first
        return max(0, length) / TICKS_PER_S if -_EARLY_TICKS <= length < _MAX_TICKS else None


def measure(path: Path, *, fragmented: bool = False) -> Extent:
    """Read the extent of a recorded MPEG-TS file; fragmented: of an fMP4 file with its header.

    The file can't cause others to be opened. Raises UnreadableMedia, also for a file that claims
    more than a segment can have.
    """
    kind = "mp4" if fragmented else "mpegts"
    try:
        require_bounded(path, SEGMENT)
        with av.open(f"file:{path}", "r", format=kind, options=_ONLY_FILE | _SHORT_PROBE) as found:
            videos = moving(found)
            if len(videos) < 2:
                return _extent(path, found, fragmented=fragmented)
        # To choose by size, more of the file must be probed.
        with av.open(f"file:{path}", "r", format=kind, options=_ONLY_FILE | _LONG_PROBE) as found:
            return _extent(path, found, fragmented=fragmented)
    except (av.FFmpegError, OSError, IndexError, ValueError, TooMuch) as e:
        why = getattr(e, "strerror", None) or e
        raise UnreadableMedia(f"{path.name} can't be read: {why}") from e


def can_decode(path: Path) -> bool:
    """Return whether the first picture of an fMP4 file can be decoded without an error.

    False where the header is of another encoding. True where there is no decoder.
    """
    try:
        with av.open(f"file:{path}", "r", format="mp4", options=_ONLY_FILE | _SHORT_PROBE) as found:
            video = best_video(found)
            if video is None or video.codec_context is None:
                return True
            context = video.codec_context
            context.options = options(SEGMENT) | {"err_detect": "explode"}
            context.thread_count, context.skip_frame = 1, "DEFAULT"
            packet = next(found.demux(video))
            pictures = [*context.decode(packet), *context.decode(None)]
            return bool(pictures) and not any(each.is_corrupt for each in pictures)
    except (av.FFmpegError, OSError, IndexError, ValueError, StopIteration):
        return False


def ends_whole(path: Path, *, fragmented: bool = False) -> bool:
    """Return whether all pictures of a file can be decoded to the end without an error.

    False where it takes too long, or where its first pictures need others.
    """
    kind = "mp4" if fragmented else "mpegts"
    until = time.monotonic() + _MAX_DECODING_S
    try:
        require_bounded(path, SEGMENT)
        with av.open(f"file:{path}", "r", format=kind, options=_ONLY_FILE | _SHORT_PROBE) as found:
            video = best_video(found)
            if video is None or video.codec_context is None:
                return False
            context = video.codec_context
            context.options = options(SEGMENT) | {"err_detect": "explode"}
            context.thread_count, context.skip_frame = 1, "DEFAULT"
            for packet in islice(found.demux(video), SEGMENT.samples):
                if any(each.is_corrupt for each in context.decode(packet)):
                    return False
                if time.monotonic() > until:
                    return False
            return True
    except (av.FFmpegError, OSError, IndexError, ValueError, TooMuch):
        return False


def _extent(path: Path, container: InputContainer, *, fragmented: bool) -> Extent:
    video = best_video(container)
    if video is None:
        if container.streams.audio:
            raise NoPicture("no picture in this stream, only sound")
        raise UnreadableMedia(f"{path.name} holds no video")
    sounds = container.streams.audio[:1]
    pts: list[int] = []
    lasts: dict[int, int] = {}
    decoded: list[int] = []
    sound_first: int | None = None
    sound_end: int | None = None
    keyed = alone = False
    for packet in islice(container.demux(video, *sounds), SEGMENT.samples):
        if packet.pts is None:
            continue
        scale = (packet.time_base or Fraction(1, TICKS_PER_S)) * TICKS_PER_S
        at, length = round(packet.pts * scale), round((packet.duration or 0) * scale)
        if packet.stream is not video:
            sound_first = at if sound_first is None else min(at, sound_first)
            sound_end = max(at + length, sound_end or 0)
            continue
        if not pts:
            keyed = packet.is_keyframe and has_parameters(packet, video)
            alone = keyed and begins_anew(packet, video)
        pts.append(at)
        decoded.append(at if packet.dts is None else round(packet.dts * scale))
        lasts[at] = length
    picture = video.codec_context  # None for a codec that PyAV cannot decode
    width_px, height_px = (picture.width, picture.height) if picture else (0, 0)
    if not pts:
        raise UnreadableMedia(f"{path.name} holds no video")
    ordered = sorted(pts)
    if sounds and sound_end is None:
        sound_first = sound_end = ordered[0]  # declared, but without packets
    if ordered[-1] - ordered[0] > _MAX_TICKS:
        length_s = (ordered[-1] - ordered[0]) / TICKS_PER_S
        raise UnreadableMedia(f"{path.name} is {length_s:.0f} s long: too long for a segment")
    if ordered[-1] - ordered[0] < _MIN_TICKS and len(pts) > 1:
        raise UnreadableMedia(f"{path.name}: all its frames have the same time")
    steps = sorted(b - a for a, b in pairwise(ordered))
    # For a single frame, assume a 25th of a second.
    interval = steps[len(steps) // 4] if steps else TICKS_PER_S // 25
    # Of a few frames that are stored in another order, the times of decoding show the rate.
    if (step := (decoded[-1] - decoded[0]) // max(1, len(decoded) - 1)) > _SHORTEST_TICKS:
        interval = min(interval, step)
    hole = _hole(ordered, decoded[-1], interval)
    steps = [b - a for a, b in pairwise(ordered) if hole is None or b <= hole]
    # fMP4 has the duration of its last frame, if that is also the last one stored; MPEG-TS not.
    held = lasts[ordered[-1]] if fragmented and pts[-1] == ordered[-1] else 0
    first = min(pts[:_REORDERED])
    ending = read_ending(path, fragmented=fragmented, pid=video.id)
    return Extent(
        first=first,
        end=ordered[-1] + (held if interval < held < _MAX_TICKS else interval),
        interval=interval,
        longest=max(steps, default=interval),
        hole=hole,
        width_px=width_px or 0,
        height_px=height_px or 0,
        early=pts[0] - first,
        begins_with_key=keyed,
        stands_alone=alone,
        sound_first=sound_first,
        sound_end=sound_end,
        n_videos=len(moving(container)),
        is_whole=ending.is_whole,
        counters=ending.counters,
        next_counters=ending.next_counters,
    )


def _hole(ordered: Sequence[int], decoded: int, interval: int) -> int | None:
    """Return where frames may be missing since the file ends there; None if none can be.

    decoded: the last frame's time of decoding: all that are shown until then are there. A hole is
    longer than what is between the frames before it.
    """
    usual = max((b - a for a, b in pairwise(ordered) if b <= decoded), default=interval)
    for a, b in pairwise(ordered[-_REORDERED - 1 :]):
        is_long = 4 * (b - a) > max(7 * interval, 5 * usual)
        if is_long and 2 * a > 2 * decoded - interval:
            return a + interval
    return None


def ticks_from(before: int, after: int) -> int:
    """Return the difference of two timestamps of the 33-bit counter, at most half its range."""
    return (after - before + WRAP // 2) % WRAP - WRAP // 2


def read_head(head: bytes, *, fragmented: bool) -> tuple[int, int | None]:
    """Return the times of the first video packet and of the first keyframe, in ticks of 90 kHz.

    head: the first bytes of an MPEG-TS segment; fragmented: of an fMP4's initialisation section
    and segment. None without a keyframe. Raises UnreadableMedia.
    """
    first: int | None = None
    try:
        require_bounded(head, SEGMENT)
        kind = "mp4" if fragmented else "mpegts"
        with av.open(io.BytesIO(head), "r", format=kind, options=_SHORT_PROBE) as container:
            video = best_video(container)
            if video is None:
                raise UnreadableMedia("the source's segment holds no video")
            for packet in container.demux(video):
                if packet.pts is None or packet.time_base is None:
                    continue
                ticks = round(packet.pts * packet.time_base * TICKS_PER_S)
                first = ticks if first is None else first
                if packet.is_keyframe:
                    return first, ticks
    except (av.FFmpegError, OSError, IndexError, ValueError, TooMuch) as e:
        raise UnreadableMedia(f"the source's segment can't be read: {e}") from e
    if first is None:
        raise UnreadableMedia("the source's segment holds no video in its first bytes")
    return first, None
