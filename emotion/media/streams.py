"""Opens a file within limits, and selects the video stream that a player would show.

Files are opened only with the file protocol and as one of `_FORMATS`: otherwise a playlist or a
list of files disguised as a video (`ffconcat version 1.0` in a .ts) would make the decoder
open other files.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from emotion.media.limits import FILE, Limits, TooMuch, options, require_bounded
from emotion.types import EmotionError

_FORMATS: Final = "mpegts,mpeg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,mxf"
_STILL: Final = frozenset(("mjpeg", "png", "bmp", "gif", "tiff", "webp"))
"""Codecs of covers and thumbnails, ignored if there is another video stream."""

_MAX_THREADS: Final = 4
_H264_IDR: Final = frozenset((5,))
_H264_SEQUENCE: Final = frozenset((7,))
_HEVC_IDR: Final = frozenset(range(16, 21))
_HEVC_SEQUENCE: Final = frozenset((33,))
_START_CODE: Final = re.compile(rb"\x00\x00\x01")


class VideoError(EmotionError):
    """The file is not a video that can be read completely."""


class Truncated(VideoError):
    """The file ends early; the frames before can be used."""


@contextmanager
def open_video(
    path: Path, *, limits: Limits = FILE
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its best video stream. Raises VideoError, before memory is allocated."""
    try:
        size = path.stat().st_size
    except OSError as e:
        raise VideoError(f"cannot read {path}: {e.strerror}") from e
    if not path.is_file():
        raise VideoError(f"{path} is not a file")
    if size == 0:
        raise VideoError(f"{path} is empty")
    # skip_frame applies only to probing: the headers suffice, and decoding
    # pictures for it takes a sixth of a short segment's time.
    chosen = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "skip_frame": "all"}
    chosen |= options(limits)
    if limits == FILE:
        # Files put together have times that go back: no sign that a counter wrapped around.
        chosen["correct_ts_overflow"] = "0"
    try:
        require_bounded(path, limits)
        container = av.open(f"file:{path.absolute()}", options=chosen, metadata_errors="replace")
    except TooMuch as e:
        raise VideoError(f"{path} declares {e}") from e
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"{path} is not a video that can be read, or it is truncated") from e
    with container:
        stream = best_video(container)
        if stream is None:
            raise VideoError(f"{path} has no video stream")
        if stream.codec_context is None:
            raise VideoError(f"{path}: no decoder for its video is installed")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.pixels:
            raise VideoError(f"{path}: pictures of {width}x{height} exceed the limit")
        stream.codec_context.options = options(limits)
        # Multithreaded decoding costs a fifth more CPU time: only for idle cores.
        n_threads = min(_MAX_THREADS, max(1, cores() // 2))
        stream.codec_context.thread_count = n_threads
        stream.thread_type = "AUTO" if n_threads > 1 else "NONE"
        yield container, stream


def moving(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not declared as covers or thumbnails."""
    shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return [s for s in shown if not s.codec_context or s.codec_context.name not in _STILL] or shown


def best_video(container: InputContainer) -> VideoStream | None:
    """Return the video stream that a player would show; None if there is none.

    Decodable streams first, then those marked as default, then the largest (as in
    `av_find_default_stream_index` of libavformat), then the first.
    """
    return max(moving(container), key=_rank, default=None)


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    context = stream.codec_context
    if context is None:
        return False, False, 0
    default = bool(stream.disposition & Disposition.default)
    return True, default, context.width * context.height


def begins_anew(packet: "Packet[Stream]", stream: VideoStream) -> bool:
    """Return whether decoding can start here: no later picture refers to an earlier one.

    In H.264 an IDR picture, in HEVC an IDR or a broken link (Rec. ITU-T H.264, table 7-1;
    H.265, table 7-1); in other codecs every keyframe.
    """
    kinds = _kinds(packet, stream)
    if kinds is None:
        return True
    return bool(kinds & (_H264_IDR if _name(stream) == "h264" else _HEVC_IDR))


def has_parameters(packet: "Packet[Stream]", stream: VideoStream) -> bool:
    """Return whether this keyframe comes with the parameter sets that a decoder needs."""
    kinds, context = _kinds(packet, stream), stream.codec_context
    if kinds is None or (context and bytes(context.extradata or b"")[:1] == b"\x01"):
        return True  # they are in the file's header
    return bool(kinds & (_H264_SEQUENCE if _name(stream) == "h264" else _HEVC_SEQUENCE))


def _name(stream: VideoStream) -> str:
    return stream.codec_context.name if stream.codec_context else ""


def _kinds(packet: "Packet[Stream]", stream: VideoStream) -> set[int] | None:
    """Return the kinds of NAL units in a packet; None for other codecs than H.264 and HEVC."""
    name = _name(stream)
    if name not in ("h264", "hevc"):
        return None
    extradata = bytes(stream.codec_context.extradata or b"")
    units = _units(bytes(packet), lengths=extradata[:1] == b"\x01")
    return {unit & 31 if name == "h264" else unit >> 1 & 63 for unit in units}


def _units(data: bytes, *, lengths: bool) -> list[int]:
    """Return the first byte of each NAL unit of a packet, delimited by lengths or start codes."""
    if not lengths:
        return [data[at.end()] for at in _START_CODE.finditer(data) if at.end() < len(data)]
    found, at = [], 0
    while at + 4 < len(data):
        found.append(data[at + 4])
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return found


def cores() -> int:
    """Return the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
