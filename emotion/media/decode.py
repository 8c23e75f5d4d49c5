"""A video stream to the pictures that are asked for, in order of time.

Files are opened by the file protocol only and only as one of `_FORMATS`: a playlist or a list of
other files that calls itself a video (`ffconcat version 1.0` in a .ts) would make the decoder
open its neighbours.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emotion.media.limits import FILE, Limits, TooMuch, options, require_bounded
from emotion.media.pictures import US, Picture
from emotion.types import EmotionError

Skip = Literal["needless", "nonref", "nonkey"]
"""What is not decoded: non-reference frames that nobody asked for, which changes nothing; all
non-reference frames; all but keyframes."""

_FORMATS: Final = "mpegts,mpeg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,ogg,mxf"
_DECLARE_DURATION: Final = ("mov", "matroska", "flv")  # others let ffmpeg estimate it

LATE_US: Final = 2_000  # containers that round to 1 ms put a frame up to this much early
_MISSING_S: Final = 0.5  # less of the declared duration missing at the end is rounding
_MAX_THREADS: Final = 4


class VideoError(EmotionError):
    """The file is not a video that can be read to its end."""


def cell_of(offset_us: int, fps: float) -> int:
    """Return which k / fps seconds a frame at this offset is the first after, or not the first."""
    return int((offset_us + LATE_US) * fps // US)


class Reader:
    """Decodes a video stream, and knows at the end whether it was all there."""

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        *,
        limits: Limits = FILE,
        longest_s: float | None = None,
    ) -> None:
        """Read an open file. longest_s: it may go on for so long; None without limit."""
        self.path = path
        self._limits, self._longest_s = limits, longest_s
        self._n_packets = 0
        self.end_us = 0
        """Where the last frame seen so far ends, decoded or not."""
        self._container = container
        self._stream = stream
        self._first: Fraction | None = None
        self._read_to = Fraction(0)
        self._broken = False
        self._first_of_cell: dict[int, int] = {}
        self._last_cell = -1

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Return how much wider than high the file's pixels are, once a picture was decoded."""
        in_container = self._stream.sample_aspect_ratio
        return in_container or self._stream.codec_context.sample_aspect_ratio

    def pictures(self, fps: float, skip: Skip = "needless") -> Iterator[Picture]:
        """Yield whole frames in order of time: those on the grid of `fps`, and perhaps others.

        Raises VideoError where the file is cut off, and where it goes on for longer, has more
        pictures or takes more time than it may. Broken frames amid good ones are left out: that is
        what a lost packet leaves behind.
        """
        before_us = -1
        for frame in self._frames(fps, skip):
            if frame.pts is None or frame.time_base is None or self._first is None:
                continue
            offset_us = round((frame.pts * frame.time_base - self._first) * US)
            if offset_us <= before_us or offset_us < 0:
                continue
            before_us = offset_us
            end_us = offset_us + self._duration_us(frame.duration, frame.time_base)
            self.end_us = max(self.end_us, end_us)
            yield Picture(frame=frame, offset_us=offset_us, end_us=end_us)
        self._require_whole()

    def _duration_us(self, duration: int | None, time_base: Fraction) -> int:
        length = Fraction(duration or 0) * time_base
        if not length and self._stream.average_rate:
            length = 1 / self._stream.average_rate
        return max(1, round(length * US))

    def _frames(self, fps: float, skip: Skip) -> Iterator[VideoFrame]:
        streams = [s for s in self._container.streams if s.type in ("video", "audio")]
        packets = self._container.demux(streams)
        context = self._stream.codec_context
        ends_at = time.monotonic() + (self._limits.decoding_s or math.inf)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if time.monotonic() > ends_at:
                    raise VideoError(
                        f"{self.path} takes more than {self._limits.decoding_s:g} s to decode"
                    )
                pts = packet.dts if packet.pts is None else packet.pts
                if pts is not None:
                    self._read_to = max(
                        self._read_to, (pts + (packet.duration or 0)) * packet.time_base
                    )
                if packet.stream is not self._stream:
                    continue
                self._require_room()
                if self._first is None and pts is not None and not packet.is_discard:
                    self._first = pts * packet.time_base
                needless = self._is_needless(packet, fps)
                if skip == "nonkey":
                    context.skip_frame = "NONKEY"
                else:
                    context.skip_frame = "NONREF" if needless or skip == "nonref" else "DEFAULT"
                decoded = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self._broken = True
                continue
            for frame in decoded:
                if isinstance(frame, VideoFrame):
                    self._broken = bool(frame.is_corrupt)
                    if not self._broken:
                        yield frame

    def _require_room(self) -> None:
        """Count a packet; raise VideoError if it is one too many, or too late."""
        self._n_packets += 1
        read_s = 0.0 if self._first is None else float(self._read_to - self._first)
        if self._longest_s is not None and read_s > self._longest_s:
            raise VideoError(
                f"{self.path} goes on for more than the {self._longest_s:g} s that it may"
            )
        most = self._limits.frames_per_s * (1 + max(0.0, read_s))
        if self._n_packets > most:
            raise VideoError(
                f"{self.path} holds more than {self._limits.frames_per_s} pictures a second"
            )

    def _is_needless(self, packet: "Packet[Stream]", fps: float) -> bool:
        """Tell whether an earlier frame of the same cell was read: so this one is not asked for.

        It is decoded all the same if others refer to it: the decoder knows.
        """
        if packet.pts is None or self._first is None or packet.is_discard:
            return False
        offset_us = round((packet.pts * packet.time_base - self._first) * US)
        if offset_us < 0:
            return False
        self.end_us = max(
            self.end_us, offset_us + self._duration_us(packet.duration, packet.time_base)
        )
        cell = cell_of(offset_us, fps)
        first_us = self._first_of_cell.get(cell, offset_us)
        self._first_of_cell[cell] = min(first_us, offset_us)
        if cell > self._last_cell:  # frames come at most some seconds out of order
            self._last_cell = cell
            if len(self._first_of_cell) > 1000:
                del self._first_of_cell[min(self._first_of_cell)]
        return first_us < offset_us and not packet.is_corrupt

    def _require_whole(self) -> None:
        """Raise VideoError if the last frame was broken, or the end came before its time."""
        if self._broken:
            raise VideoError(f"{self.path} is truncated: its last picture is broken")
        duration = self._container.duration
        if duration is None or not self._container.format.name.startswith(_DECLARE_DURATION):
            return
        start_s = (self._container.start_time or 0) / av.time_base
        # A fragment of a live stream declares the time of its end for its duration.
        declared_s = duration / av.time_base - start_s
        read_s = float(self._read_to) - start_s
        if read_s < declared_s - _MISSING_S:
            raise VideoError(
                f"{self.path} is truncated: it ends after {read_s:.1f} of {declared_s:.1f} s"
            )


@contextmanager
def open_video(
    path: Path, *, limits: Limits = FILE
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream. Raises VideoError, before memory is taken."""
    try:
        size = path.stat().st_size
    except OSError as e:
        raise VideoError(f"cannot read {path}: {e.strerror}") from e
    if not path.is_file():
        raise VideoError(f"{path} is not a file")
    if size == 0:
        raise VideoError(f"{path} is empty")
    # skip_frame is for the look that is taken at the beginning alone: what it finds is in the
    # headers, and decoding pictures for it costs a sixth of a short segment's time.
    asked = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "skip_frame": "all"}
    asked |= options(limits)
    try:
        require_bounded(path, limits)
        container = av.open(f"file:{path.absolute()}", options=asked, metadata_errors="replace")
    except TooMuch as e:
        raise VideoError(f"{path} says that it holds {e}") from e
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"{path} is not a video that can be read, or it is cut off") from e
    with container:
        stream = next(
            (s for s in container.streams.video if not s.disposition & Disposition.attached_pic),
            None,
        )
        if stream is None:
            raise VideoError(f"{path} has no video stream")
        if stream.codec_context is None:
            raise VideoError(f"{path}: there is no decoder here for its video")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.pixels:
            raise VideoError(f"{path}: pictures of {width}x{height} are larger than is read here")
        stream.codec_context.options = options(limits)
        # Threads of the decoder cost a fifth more in all: they are for cores that would idle.
        n_threads = min(_MAX_THREADS, max(1, cores() // 2))
        stream.codec_context.thread_count = n_threads
        stream.thread_type = "AUTO" if n_threads > 1 else "NONE"
        yield container, stream


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
