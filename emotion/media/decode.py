"""Decodes a video stream to the sampled pictures, in order of time."""

import math
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emotion.media.limits import FILE, Limits
from emotion.media.pictures import US, Picture
from emotion.media.rest import unread_rest
from emotion.media.streams import Truncated, VideoError, open_video

Skip = Literal["needless", "nonref", "nonkey"]
"""Frames that are not decoded: non-reference frames that are not sampled (does not change the
result); all non-reference frames; all but keyframes."""

_DECLARE_DURATION: Final = ("mov", "matroska", "flv")  # for others ffmpeg estimates it

LATE_US: Final = 2_000  # containers that round to 1 ms put a frame up to this much early
_MISSING_S: Final = 0.5  # less of the declared duration missing at the end is rounding
_JUMP_S: Final = 0.1
_JUMP_SHOWN_S: Final = 1.0
"""Seconds back in decoding time, or in time of display where there is no other, that mark a new
timeline, as in concatenated files.
"""

_REORDERED: Final = 16
"""Maximum number of packets before the one displayed first (H.264 and HEVC, Annex A)."""

_MAX_HELD: Final = 4096
"""Maximum number of packets before the first displayed picture is known: cut files begin with
pictures that are not shown."""

_LEAD_SHIFT: Final = 1 << 40
"""Ticks by which the timestamps of lead files are moved back, so that they are not output."""


def cell_of(offset_us: int, fps: float) -> int:
    """Return the index k of the sampling interval, from k / fps seconds, of this offset."""
    return int((offset_us + LATE_US) * fps // US)


class Reader:
    """Decodes a video stream, and detects at its end whether it was complete."""

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        *,
        limits: Limits = FILE,
        longest_s: float | None = None,
    ) -> None:
        """Read an open file. longest_s: its maximum duration; None without limit."""
        self.path = path
        self._limits, self._longest_s = limits, longest_s
        self._n_packets = 0
        self._ends_at = time.monotonic() + (limits.decoding_s or math.inf)
        self._shift = 0
        self._last_dts: int | None = None
        self._last_pts: int | None = None
        self._read_bytes = 0
        self.end_us = 0
        """End of the last frame so far, decoded or not, in microseconds."""
        self._container = container
        self._stream = stream
        self._first: Fraction | None = None
        self._read_to = Fraction(0)
        self._broken = False
        self._first_of_cell: dict[int, int] = {}
        self._last_cell = -1

    @property
    def size_px(self) -> tuple[int, int]:
        """Return the declared width and height of the pictures."""
        context = self._stream.codec_context
        return max(1, context.width), max(1, context.height)

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Return width / height of the file's pixels; known once a picture was decoded."""
        in_container = self._stream.sample_aspect_ratio
        return in_container or self._stream.codec_context.sample_aspect_ratio

    def pictures(self, fps: float, skip: Skip = "needless") -> Iterator[Picture]:
        """Yield intact frames in order of time: those sampled by `fps`, and perhaps others.

        Raises VideoError if the file is truncated or exceeds its duration, number of pictures or
        decoding time. Broken frames between good ones, as after a lost packet, are skipped.
        """
        before_us, end_us = -1, 0
        for frame in self._frames(fps, skip):
            pts = frame.dts if frame.pts is None else frame.pts
            if frame.time_base is None or self._first is None:
                continue
            # Where packets have no times of display, a decoder's last pictures have none at all.
            offset_us = end_us if pts is None else round((pts * frame.time_base - self._first) * US)
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

    def prime(self, lead: Sequence[Path]) -> None:
        """Decode these preceding files, to which the first pictures may refer.

        Unreadable parts are skipped. Call it before `pictures`.
        """
        context = self._stream.codec_context
        context.skip_frame = "NONREF"
        for path in lead:
            try:
                with open_video(path, limits=self._limits) as (container, stream):
                    for packet in container.demux(stream):
                        self._require_time()
                        if packet.dts is None or not packet.size:
                            continue
                        packet.dts -= _LEAD_SHIFT
                        packet.pts = packet.dts if packet.pts is None else packet.pts - _LEAD_SHIFT
                        try:
                            context.decode(packet)
                        except (av.error.FFmpegError, ValueError):
                            continue
            except (VideoError, av.error.FFmpegError):
                self._require_time()

    def _require_time(self) -> None:
        if time.monotonic() > self._ends_at:
            raise VideoError(f"{self.path} takes more than {self._limits.decoding_s:g} s to decode")

    def _packets(self) -> Iterator["Packet[Stream]"]:
        """Yield the packets of video and audio, with continuous video timestamps.

        The first packets are held back, until the time of the first displayed picture is known.
        """
        streams = [s for s in self._container.streams if s.type in ("video", "audio")]
        has_times = self._container.format.name != "avi"
        held: list[Packet[Stream]] = []
        n_video = 0
        try:
            for packet in self._container.demux(streams):
                if packet.stream is self._stream:
                    if not has_times:
                        packet.pts = None  # AVI has no times of display: in order of decoding
                    self._make_continuous(packet)
                    n_video += not packet.is_discard
                    self._read_bytes = max(self._read_bytes, (packet.pos or 0) + packet.size)
                if n_video > _REORDERED and not held:
                    yield packet
                    continue
                held.append(packet)
                if n_video == _REORDERED or len(held) >= _MAX_HELD:
                    n_video = _REORDERED + 1
                    self._find_first(held)
                    while held:
                        yield held.pop(0)
        except (av.error.FFmpegError, ValueError):
            self._broken = True
        if held:
            self._find_first(held)
            yield from held

    def _make_continuous(self, packet: "Packet[Stream]") -> None:
        base, shift = packet.time_base, self._shift
        if packet.dts is not None:
            at, before, jump_s = packet.dts, self._last_dts, _JUMP_S
        elif packet.pts is not None:
            at, before, jump_s = packet.pts, self._last_pts, _JUMP_SHOWN_S
        else:
            return
        if before is not None and (before - at - shift) * base > jump_s:
            step = max(packet.duration or 0, round(self._frame_s() / base), 1)
            shift = before + step - at
            if packet.pts is not None and self._last_pts is not None:
                shift = max(shift, self._last_pts + step - packet.pts)
            self._shift = shift
        if packet.dts is not None:
            packet.dts += shift
            self._last_dts = packet.dts
        if packet.pts is not None:
            packet.pts += shift
            self._last_pts = max(packet.pts, self._last_pts or packet.pts)

    def _frame_s(self) -> Fraction:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return 1 / Fraction(rate) if rate else Fraction(1, 25)

    def _find_first(self, packets: "list[Packet[Stream]]") -> None:
        shown = [p for p in packets if p.stream is self._stream and not p.is_discard]
        times = [(p.dts if p.pts is None else p.pts, p.time_base) for p in shown]
        self._first = min((at * base for at, base in times if at is not None), default=None)

    def _frames(self, fps: float, skip: Skip) -> Iterator[VideoFrame]:
        context = self._stream.codec_context
        for packet in self._packets():
            try:
                self._require_time()
                pts = packet.dts if packet.pts is None else packet.pts
                if pts is not None:
                    self._read_to = max(
                        self._read_to, (pts + (packet.duration or 0)) * packet.time_base
                    )
                if packet.stream is not self._stream:
                    continue
                self._check_limits()
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

    def _check_limits(self) -> None:
        """Count a packet; raise VideoError if there are too many, or the file is too long."""
        self._n_packets += 1
        read_s = 0.0 if self._first is None else float(self._read_to - self._first)
        if self._longest_s is not None and read_s > self._longest_s:
            raise VideoError(f"{self.path} is longer than the allowed {self._longest_s:g} s")
        most = self._limits.frames_per_s * (1 + max(0.0, read_s))
        if self._n_packets > most:
            raise VideoError(
                f"{self.path} has more than {self._limits.frames_per_s} pictures a second"
            )

    def _is_needless(self, packet: "Packet[Stream]", fps: float) -> bool:
        """Return whether an earlier frame of the same cell was read, so this one is not sampled.

        The decoder still decodes it if other frames refer to it.
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
        """Raise VideoError if the last frame was broken, or not all of the file was read."""
        if self._broken:
            raise Truncated(f"{self.path} is truncated: its last picture is broken")
        kind = self._container.format.name
        if self._limits == FILE and (
            rest := unread_rest(self.path, kind, read_bytes=self._read_bytes, pid=self._stream.id)
        ):
            raise VideoError(f"{self.path} {rest}: split it there, each part is a file of its own")
        duration = self._container.duration
        if duration is None or not kind.startswith(_DECLARE_DURATION):
            return
        start_s = (self._container.start_time or 0) / av.time_base
        # A fragment of a live stream declares the time of its end for its duration.
        declared_s = duration / av.time_base - start_s
        read_s = float(self._read_to) - start_s
        if read_s < declared_s - _MISSING_S:
            raise Truncated(
                f"{self.path} is truncated: it ends after {read_s:.1f} of {declared_s:.1f} s"
            )
