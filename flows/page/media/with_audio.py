"""A recorded segment with the audio that was recorded beside it, in one file for a browser.

Only silence is encoded, where audio is missing: a browser would wait for it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Any, Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from flows.capture.recorded.audio import AudioFile, around
from flows.capture.recorded.playlist_text import file_s
from flows.capture.segment import Segment
from flows.errors import ShowmoodError
from flows.recordings.remux import open_segment
from flows.recordings.segment_audio import AudioBeside, is_out_of_band, seconds_of

_TS_OPTIONS: Final = {"mpegts_copyts": "1"}
_MP4_OPTIONS: Final = {"movflags": "delay_moov+default_base_moof+frag_discont", "use_editlist": "0"}
"""One fragment with its packets' timestamps, after a head that has the audio's codec."""

_HEADS: Final = (b"ftyp", b"moov", b"free")
_MAX_SILENCE: Final = 2_000
"""Frames of silence in a segment: 40 s of AAC."""

_ENCODERS: Final = {
    "aac": "aac",
    "ac3": "ac3",
    "eac3": "eac3",
    "mp2": "mp2",
    "mp3": "libmp3lame",
    "mp3float": "libmp3lame",
    "opus": "libopus",
}
"""By the names of decoders. HE-AAC is the decoder's "aac" with another profile, and has none."""

_places = threading.BoundedSemaphore(4)
_WAIT_S: Final = 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Muxed:
    """A segment in one file. head: the initialisation section of fMP4; empty for MPEG-TS."""

    head: bytes
    media: bytes


def with_audio(segment: Segment, listed: Sequence[Segment], audio: Sequence[AudioFile]) -> Muxed:
    """Return a segment of a recording with its audio.

    listed: all segments of the recording. audio: all that was recorded beside them, in order.
    Raises ShowmoodError where it can't be read.
    """
    if not _places.acquire(timeout=_WAIT_S):
        raise ShowmoodError("too many segments are being made: try again")
    try:
        beside = AudioBeside.of(audio, listed)
        others = _with_audio_near(segment, listed, audio)
        with open_segment(segment) as pictures, beside.beside(segment, pictures, others) as media:
            found, heard = media.packets()
            if not found:
                raise ShowmoodError(f"{segment.path.name} has no pictures")
            begin_s = min(seconds_of(each) for each in found)
            if media.audio is not None:
                heard = _within(media.audio, heard, begin_s, begin_s + file_s(segment))
            return _write(segment, media.streams, found, heard)
    except (av.FFmpegError, ValueError) as e:
        raise ShowmoodError(f"{segment.path.name} can't be read: {e}") from e
    finally:
        _places.release()


def _with_audio_near(
    segment: Segment, listed: Sequence[Segment], audio: Sequence[AudioFile]
) -> list[Segment]:
    """Return segments nearby whose audio gives the codec for one without audio."""
    near = {each.piece for each in around(audio, segment.path.stem)}
    return [each for each in listed if each.path.stem in near]


def _within(
    stream: AudioStream, packets: list[Packet[Any]], begin_s: float, end_s: float
) -> list[Packet[Any]]:
    """Return the packets that begin in a time range, in order, with silence between them."""
    step_s = _frame_s(stream, packets)
    chosen: list[Packet[Any]] = []
    at_s, silence = begin_s, _Silence(stream)
    for packet in sorted(packets, key=seconds_of):
        start_s = seconds_of(packet)
        if start_s < max(begin_s, at_s) - step_s / 2 or start_s >= end_s - step_s / 2:
            continue
        if start_s - at_s > 1.5 * step_s:
            chosen += silence.between(at_s, start_s)
        chosen.append(packet)
        at_s = start_s + step_s
    if end_s - at_s > 1.5 * step_s:
        chosen += silence.between(at_s, end_s)
    return chosen


def _frame_s(stream: AudioStream, packets: Sequence[Packet[Any]]) -> float:
    lengths = [float((each.duration or 0) * (each.time_base or Fraction(0))) for each in packets]
    if known := [each for each in lengths if each > 0]:
        return median(known)
    return (stream.codec_context.frame_size or 1024) / (stream.codec_context.sample_rate or 48_000)


class _Silence:
    """Frames of silence like those of a stream; none where its codec can't be encoded."""

    def __init__(self, stream: AudioStream) -> None:
        self._stream = stream
        self._made: bytes | None = None
        self._frame_s = _frame_s(stream, ())

    def between(self, begin_s: float, end_s: float) -> list[Packet[Any]]:
        """Return as many frames as fit."""
        if self._made is None:
            self._made = b""
            with suppress(av.FFmpegError, ValueError):  # a rate or layout that it can't encode
                self._made = self._make()
        if not self._made:
            return []
        n = min(round((end_s - begin_s) / self._frame_s), _MAX_SILENCE)
        scale = self._stream.time_base or Fraction(1, 90_000)
        packets = []
        for index in range(n):
            packet: Packet[Any] = Packet(self._made)
            packet.stream, packet.time_base = self._stream, scale
            packet.pts = packet.dts = round((begin_s + index * self._frame_s) / scale)
            packet.duration = round(self._frame_s / scale)
            packets.append(packet)
        return packets

    def _make(self) -> bytes:
        like = self._stream.codec_context
        name = _ENCODERS.get(like.name, "")
        is_other = name == "aac" and like.profile not in (None, "LC")
        if not name or is_other or not like.sample_rate:
            return b""
        encoder = AudioCodecContext.create(name, "w")
        assert isinstance(encoder, AudioCodecContext)
        form = (encoder.codec.audio_formats or [av.AudioFormat("fltp")])[0]
        encoder.sample_rate, encoder.layout, encoder.format = like.sample_rate, like.layout, form
        encoder.options = {"reservoir": "0"} if name == "libmp3lame" else {}
        encoder.open()
        n_samples = encoder.frame_size or 1024
        self._frame_s = n_samples / like.sample_rate
        frame = av.AudioFrame(format=form.name, layout=like.layout.name, samples=n_samples)
        frame.sample_rate = like.sample_rate
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        made = b""
        for index in range(4):  # the first ones prime the encoder
            frame.pts = n_samples * index
            for packet in encoder.encode(frame):
                made = bytes(packet)
        if name != "aac" or (is_out_of_band(self._stream) and like.extradata):
            return made
        return _adts(len(made), like.sample_rate, len(like.layout.channels)) + made


_RATES: Final = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000)
_RATES_LOW: Final = (11_025, 8_000, 7_350)


def _adts(n_bytes: int, rate: int, channels: int) -> bytes:
    """Return the header of a frame of AAC-LC (ISO/IEC 13818-7, 6.2)."""
    index, length = (_RATES + _RATES_LOW).index(rate), n_bytes + 7
    head = 0xFFF1 << 40 | 1 << 38 | index << 34 | channels << 30 | length << 13 | 0x7FF << 2
    return head.to_bytes(7, "big")


def _write(
    segment: Segment,
    streams: Sequence[Stream],
    pictures: Sequence[Packet[Any]],
    audio: Sequence[Packet[Any]],
) -> Muxed:
    is_ts = segment.path.suffix == ".ts"
    into = io.BytesIO()
    out: OutputContainer = av.open(
        into,
        "w",
        format="mpegts" if is_ts else "mp4",
        options=_TS_OPTIONS if is_ts else _MP4_OPTIONS,
        container_options={"avoid_negative_ts": "disabled"},
    )
    with out:
        outs = [out.add_stream_from_template(each) for each in streams]
        packets = [(_dts_s(each), outs[0], each) for each in pictures]
        packets += [(_dts_s(each), outs[-1], each) for each in audio]
        for _, stream, packet in sorted(packets, key=lambda each: each[0]):
            packet.stream = stream
            out.mux(packet)
    data = into.getvalue()
    if is_ts:
        return Muxed(head=b"", media=data)
    at = 0
    while data[at + 4 : at + 8] in _HEADS:
        at += int.from_bytes(data[at : at + 4], "big")
    return Muxed(head=data[:at], media=data[at:])


def _dts_s(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * (packet.time_base or Fraction(0)))
