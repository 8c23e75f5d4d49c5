"""Video files to frames.

Files are opened by the file protocol only and only as one of `_FORMATS`: a playlist or a list of
other files that calls itself a video (`ffconcat version 1.0` in a .ts) would make the decoder
open its neighbours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from emotion.types import EmotionError, Frames, UInt8

_FORMATS: Final = "mpegts,mpeg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,mxf"
_DECLARE_DURATION: Final = ("mov", "matroska", "flv")  # others let ffmpeg estimate it

_US: Final = 1_000_000
_LATE_US: Final = 2_000  # containers that round to 1 ms put a frame up to this much early
_MISSING_S: Final = 0.5  # less of the declared duration missing at the end is rounding


class VideoError(EmotionError):
    """The file is not a video that can be read to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What a video file says of itself.

    width_px, height_px: as shown, after rotation. fps: average, 0 where unknown.
    creation_time: aware UTC, None where the container does not say.
    """

    duration_s: float
    width_px: int
    height_px: int
    fps: float
    creation_time: datetime | None


def probe(path: Path) -> VideoInfo:
    """Return what the file says of itself; one frame is decoded, for the rotation.

    Raises VideoError as `read_frames` does, except for truncation.
    """
    with _open(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        creation_time = _creation_time(container.metadata.get("creation_time"))
        for picture in _Reader(path, container, stream).pictures():
            width, height = picture.size_px
            return VideoInfo(
                duration_s=duration_s,
                width_px=width,
                height_px=height,
                fps=fps,
                creation_time=creation_time,
            )
        raise VideoError(f"{path}: no picture in it can be decoded")


def read_frames(path: Path, *, fps: float, longest_side_px: int) -> Frames:
    """Return the frames of one short file, all at once.

    Of the frames those are taken that come first at or after each k / fps seconds from the first
    video packet that is shown, so the same bytes give the same frames; a slower video gives all.
    Pictures are turned as the file says and made no larger than `longest_side_px`.

    Raises VideoError, in one line: the file is missing, empty, no video, has no video stream, no
    picture that can be decoded, or ends before its time.
    """
    with _open(path) as (container, stream):
        reader = _Reader(path, container, stream)
        parts = list(_windows(reader, fps, 0, longest_side_px))
    _, _, frames = parts[0]
    return frames


def read_windows(
    path: Path, *, fps: float, window_s: float = 2.0, longest_side_px: int
) -> Iterator[tuple[float, float, Frames]]:
    """Yield (offset_s, duration_s, frames) of each `window_s` of a long file, in bounded memory.

    Windows start at whole multiples of `window_s` from the first video packet; `frames.offset_s`
    counts from the start of the window. The last is as long as its video; a stretch without any
    video yields nothing. Frames are taken and errors raised as by `read_frames`; the windows
    before the damage of a truncated file have been yielded by then.
    """
    window_us = round(window_s * _US)
    if window_us <= 0:
        raise ValueError(f"window_s must be positive, not {window_s}")
    with _open(path) as (container, stream):
        yield from _windows(_Reader(path, container, stream), fps, window_us, longest_side_px)


def _windows(
    reader: "_Reader", fps: float, window_us: int, longest_side_px: int
) -> Iterator[tuple[float, float, Frames]]:
    """Yield windows of `window_us`, or all in one where that is 0."""
    if not fps > 0 or longest_side_px < 1:
        raise ValueError(f"fps ({fps}) and longest_side_px ({longest_side_px}) must be positive")
    images: list[UInt8] = []
    offsets_us: list[int] = []
    window = 0
    end_us = 0
    due_us = 0.0
    size_px = (0, 0)
    shape = (0, 0)
    converter = VideoReformatter()

    def collected(duration_us: int) -> tuple[float, float, Frames]:
        start_us = window * window_us
        frames = Frames(
            images=np.stack(images) if images else np.zeros((0, *shape, 3), dtype=np.uint8),
            offset_s=(np.array(offsets_us, dtype=np.int64) - start_us) / _US,
            source_width_px=size_px[0],
            source_height_px=size_px[1],
        )
        images.clear()
        offsets_us.clear()
        return start_us / _US, duration_us / _US, frames

    for picture in reader.pictures():
        if size_px == (0, 0):
            size_px = picture.size_px
            shape = _fit(size_px, longest_side_px)
        at = picture.offset_us // window_us if window_us else 0
        if at > window:
            if end_us > window * window_us:
                yield collected(window_us)
            window = at
        end_us = picture.end_us
        if picture.offset_us + _LATE_US >= due_us:
            images.append(picture.image(shape, converter))
            offsets_us.append(picture.offset_us)
            due_us = ((picture.offset_us + _LATE_US) * fps // _US + 1) * _US / fps
    if size_px == (0, 0):
        raise VideoError(f"{reader.path}: no picture in it can be decoded")
    last_us = end_us - window * window_us
    yield collected(min(last_us, window_us) if window_us else last_us)


def _fit(size_px: tuple[int, int], longest_side_px: int) -> tuple[int, int]:
    """Return height and width of the size that fits, never larger than it was."""
    width, height = size_px
    scale = min(1.0, longest_side_px / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """A decoded frame; offset_us and end_us count from the first video packet."""

    frame: VideoFrame
    offset_us: int
    end_us: int

    @property
    def _quarter_turns(self) -> int:
        """Return how often to turn by 90 degrees, counter-clockwise."""
        return round(self.frame.rotation / 90) % 4

    @property
    def size_px(self) -> tuple[int, int]:
        """Return width and height as shown."""
        width, height = self.frame.width, self.frame.height
        return (height, width) if self._quarter_turns % 2 else (width, height)

    def image(self, shape: tuple[int, int], converter: VideoReformatter) -> UInt8:
        """Return uint8 (H, W, 3) RGB of this height and width, upright."""
        turns = self._quarter_turns
        height, width = shape[::-1] if turns % 2 else shape
        rgb = converter.reformat(self.frame, width, height, "rgb24").to_ndarray()
        return np.rot90(rgb, turns)


class _Reader:
    """Decodes a video stream, and knows at the end whether it was all there."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self.path = path
        self._container = container
        self._stream = stream
        self._first: Fraction | None = None
        self._read_to = Fraction(0)
        self._broken = False

    def pictures(self) -> Iterator[_Picture]:
        """Yield the whole frames in order of time; raise VideoError where the file is cut off.

        Broken frames amid good ones are left out: that is what a lost packet leaves behind.
        """
        before_us = -1
        for frame in self._frames():
            if frame.pts is None or frame.time_base is None or self._first is None:
                continue
            offset = frame.pts * frame.time_base - self._first
            offset_us = round(offset * _US)
            if offset_us <= before_us or offset_us < 0:
                continue
            before_us = offset_us
            duration = Fraction(frame.duration or 0) * frame.time_base
            if not duration and self._stream.average_rate:
                duration = 1 / self._stream.average_rate
            yield _Picture(
                frame=frame, offset_us=offset_us, end_us=offset_us + max(1, round(duration * _US))
            )
        self._require_whole()

    def _frames(self) -> Iterator[VideoFrame]:
        streams = [s for s in self._container.streams if s.type in ("video", "audio")]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                pts = packet.dts if packet.pts is None else packet.pts
                if pts is not None:
                    self._read_to = max(
                        self._read_to, (pts + (packet.duration or 0)) * packet.time_base
                    )
                if packet.stream is not self._stream:
                    continue
                if self._first is None and pts is not None and not packet.is_discard:
                    self._first = pts * packet.time_base
                decoded = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self._broken = True
                continue
            for frame in decoded:
                if isinstance(frame, VideoFrame):
                    self._broken = bool(frame.is_corrupt)
                    if not self._broken:
                        yield frame

    def _require_whole(self) -> None:
        """Raise VideoError if the last frame was broken, or the end came before its time."""
        if self._broken:
            raise VideoError(f"{self.path} is truncated: its last picture is broken")
        duration = self._container.duration
        if duration is None or not self._container.format.name.startswith(_DECLARE_DURATION):
            return
        read_s = float(self._read_to) - (self._container.start_time or 0) / av.time_base
        if read_s < duration / av.time_base - _MISSING_S:
            raise VideoError(
                f"{self.path} is truncated: it ends after {read_s:.1f} of "
                f"{duration / av.time_base:.1f} s"
            )


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        size = path.stat().st_size
    except OSError as e:
        raise VideoError(f"cannot read {path}: {e.strerror}") from e
    if not path.is_file():
        raise VideoError(f"{path} is not a file")
    if size == 0:
        raise VideoError(f"{path} is empty")
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"{path} is not a video that can be read, or it is cut off") from e
    with container:
        stream = next(
            (s for s in container.streams.video if not s.disposition & Disposition.attached_pic),
            None,
        )
        if stream is None:
            raise VideoError(f"{path} has no video stream")
        stream.thread_type = "AUTO"
        yield container, stream


def _creation_time(text: str | None) -> datetime | None:
    """Return the container's time; the zero of an unset clock (1904 or 1970) is none."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time if time.year > 1970 else None
