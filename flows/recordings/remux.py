"""Copies packets of recorded segments into MP4 files, without re-encoding.

Audio that was recorded separately is included. Timestamps are continuous from segment to segment:
within a run by the source's own; where those start over (another run, a gap, every fMP4 file) the
video continues at its end, and the audio is shifted with it. Only the named files can be opened, in
the format that capture recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from flows.capture.segment import Segment
from flows.errors import ShowmoodError, UsageError
from flows.recordings.segment_audio import AudioBeside, Media, is_out_of_band, seconds_of

_STRAY_S: Final = 0.3
"""Most seconds between the timestamps of two segments that are continuous."""

_JOINT: Final = timedelta(milliseconds=100)
"""Longest time between two segments that follow each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A file that was cut: of what, from when to when. gaps: what is left out in between."""

    path: Path
    begin: datetime
    end: datetime
    width_px: int
    height_px: int
    gaps: tuple[tuple[datetime, datetime, str], ...] = ()

    @property
    def duration_s(self) -> float:
        """Return how long it plays."""
        left_out = sum(((end - begin) for begin, end, _ in self.gaps), timedelta(0))
        return (self.end - self.begin - left_out).total_seconds()


def write_cuts(
    segments: Sequence[Segment],
    begin: datetime,
    end: datetime,
    out: Path,
    *,
    gaps: tuple[tuple[datetime, datetime, str], ...],
    force: bool,
) -> Iterator[Cut]:
    """Write segments from `begin` until `end` into a file, and yield each file when it is whole.

    begin: the date of a keyframe. Where the format of video or audio changes, the rest goes into
    `out` with -2, -3 before its suffix. gaps: what is left out in between. Raises UsageError for a
    file that is there already, unless `force` is given; ShowmoodError; OSError.
    """
    writer: _Writer | None = None
    n_files = 0
    apart = AudioBeside()
    try:
        for n, segment in enumerate(segments):
            with (
                open_segment(segment) as pictures,
                apart.beside(segment, pictures, segments[n + 1 :]) as media,
            ):
                form = _form(media)
                if writer is not None and not writer.takes(form):
                    yield writer.close(gaps)
                    writer = None
                if writer is None:
                    n_files += 1
                    path = out if n_files == 1 else out.with_stem(f"{out.stem}-{n_files}")
                    require_absent(path, force)
                    writer = _Writer(path, media, form, max(begin, file_start(segment)))
                writer.add(media, segment, end)
        if writer is not None:
            done, writer = writer.close(gaps), None
            yield done
    finally:
        if writer is not None:
            writer.discard()


@dataclass(frozen=True, slots=True)
class _Form:
    """Properties that must not change within a file; sound: None where there is none."""

    picture: tuple[Any, ...]
    sound: tuple[Any, ...] | None


@dataclass(slots=True)
class _Track:
    """A stream of the file that is written: where it ends, in seconds; its newest dts.

    until_s: where its newest packet ends.
    """

    stream: Stream
    end_s: float = 0.0
    until_s: float = float("-inf")
    dts: int | None = None
    held: list[Packet[Any]] = field(default_factory=list)


class _Writer:
    """One file, written beside its name until it is whole."""

    def __init__(self, path: Path, media: Media, form: _Form, begin: datetime) -> None:
        self.path, self._form, self.begin = path, form, begin
        # Another process may cut the same clip.
        self._part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
        self._out: OutputContainer = av.open(
            str(self._part), "w", format="mp4", options={"movflags": "faststart"}
        )
        self._tracks = [_Track(self._out.add_stream_from_template(s)) for s in media.streams]
        picture = media.video.codec_context
        self._size = picture.width, picture.height
        self._shift_s: float | None = None  # from the file's times to those of what is written
        self._expected_s = 0.0
        self._end = begin

    def takes(self, form: _Form) -> bool:
        """Return whether media of this format fits into this file; audio may be missing."""
        same_sound = form.sound is None or form.sound == self._form.sound
        return form.picture == self._form.picture and same_sound

    def add(self, media: Media, segment: Segment, end: datetime) -> None:
        """Copy a segment's packets from `begin` on and until `end`."""
        pictures, heard = media.packets()
        if not pictures:
            return
        first_s = min(seconds_of(p) for p in pictures)
        start = file_start(segment)
        from_s = first_s + max(0.0, (self.begin - start).total_seconds())
        overlap_s = segment.offset_s if self._shift_s is not None else 0.0
        from_s = max(from_s, first_s + overlap_s) - 0.0005
        until_s = first_s + (min(end, segment.end) - start).total_seconds() - 0.0005
        kept = _whole_pictures(pictures, from_s, until_s if end < segment.end else float("inf"))
        if not kept:
            return
        picture_s = min(seconds_of(p) for p in kept)
        is_continuous = self._shift_s is not None and (
            abs(picture_s + self._shift_s - self._tracks[0].end_s) < _STRAY_S
            and segment.path.suffix != ".mp4"
        )
        if not is_continuous:
            self._shift_s = self._tracks[0].end_s - picture_s
        shift_s = self._shift_s or 0.0
        # A file's sound may begin before its picture: that belongs to the picture before.
        follows = start + timedelta(seconds=picture_s - first_s) < self._end + _JOINT
        follows = follows and self._tracks[0].dts is not None
        stop_s = max(seconds_of(p) for p in kept)
        last = kept[-1] if kept[-1].duration else pictures[0]
        stop_s += float((last.duration or 0) * (last.time_base or Fraction(0)))
        # Sound of a file of its own may reach far into the next segment, which then has it, too.
        may_reach_on = end >= segment.end and not media.has_audio_apart
        sounds = [
            p
            for p in heard
            if (follows or seconds_of(p) >= picture_s - _half(p))
            and (may_reach_on or seconds_of(p) < stop_s - _half(p))
        ]
        self._copy(self._tracks[0], kept, shift_s)
        if len(self._tracks) > 1:
            self._copy(self._tracks[1], sounds, shift_s)
        self._tracks[0].end_s = stop_s + shift_s
        self._end = min(end, segment.end)

    def _copy(self, track: _Track, packets: list[Packet[Any]], shift_s: float) -> None:
        for packet in packets:
            scale = packet.time_base or Fraction(1, 90_000)
            shift = round(shift_s / scale)
            pts, dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
            is_sound = track is not self._tracks[0]
            if is_sound and track.until_s > float(dts * scale) + _half(packet):
                continue  # The sound before overlaps it.
            track.until_s = float(dts * scale) + 2 * _half(packet)
            if track.dts is not None and dts <= track.dts:
                dts = min(track.dts + 1, pts)
            track.dts = dts
            packet.pts, packet.dts, packet.stream = pts, dts, track.stream
            self._out.mux(packet)

    def close(self, gaps: tuple[tuple[datetime, datetime, str], ...]) -> Cut:
        """Finish the file under its name."""
        self._out.close()
        self._part.replace(self.path)
        inside = tuple(gap for gap in gaps if gap[0] >= self.begin and gap[1] <= self._end)
        width_px, height_px = self._size
        return Cut(
            path=self.path,
            begin=self.begin,
            end=self._end,
            width_px=width_px,
            height_px=height_px,
            gaps=inside,
        )

    def discard(self) -> None:
        """Delete the unfinished file."""
        self._out.close()
        self._part.unlink(missing_ok=True)


def _whole_pictures(packets: list[Packet[Any]], from_s: float, until_s: float) -> list[Packet[Any]]:
    """Return the packets from the keyframe at `from_s` on that pictures before `until_s` need.

    In the order of decoding: up to the last of them, with the later pictures that it refers to.
    """
    first = next(
        (n for n, p in enumerate(packets) if p.is_keyframe and seconds_of(p) >= from_s), None
    )
    if from_s <= min(seconds_of(p) for p in packets):
        first = 0
    if first is None:
        return []
    last = max((n for n, p in enumerate(packets) if seconds_of(p) < until_s), default=-1)
    return packets[first : last + 1]


def open_segment(segment: Segment) -> InputContainer:
    """Open a segment's file in its recorded format; raises UsageError, ShowmoodError."""
    kind = "mp4" if segment.path.suffix == ".mp4" else "mpegts"
    try:
        return av.open(
            f"file:{segment.path}", "r", format=kind, options={"protocol_whitelist": "file"}
        )
    except FileNotFoundError as e:
        raise UsageError(f"{segment.path} was deleted just now: try again") from e
    except av.FFmpegError as e:
        raise ShowmoodError(f"{segment.path} can't be read: {e}") from e


def _form(media: Media) -> _Form:
    if any(stream.codec_context is None for stream in media.streams):
        raise ShowmoodError(f"{media.name} can't be cut: an unknown codec")
    video = media.video.codec_context
    # MPEG-TS carries its parameters in the stream, where they stay.
    head = video.extradata if is_out_of_band(media.video) else None
    picture = (video.name, video.width, video.height, video.profile, head)
    if media.audio is None:
        return _Form(picture, None)
    audio = media.audio.codec_context
    return _Form(
        picture,
        (
            audio.name,
            audio.sample_rate,
            audio.layout.name,
            audio.extradata if is_out_of_band(media.audio) else None,
        ),
    )


def _half(packet: Packet[Any]) -> float:
    return float((packet.duration or 0) * (packet.time_base or Fraction(0))) / 2


def file_start(segment: Segment) -> datetime:
    """Return the date of the first frame in a segment's file."""
    return segment.start - timedelta(seconds=segment.offset_s)


def require_absent(path: Path, force: bool) -> None:
    """Raise UsageError for a file that is there already, unless `force`, or has no folder."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: take another name, or --force")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path.absolute().parent}: no such folder")
