"""A recorded segment opened with its audio, from its own file or from one beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from flows.capture.recorded.audio import FOLDER, AudioFile, around, audio_in, in_order
from flows.capture.recorded.media import TICKS_PER_S, ticks_from
from flows.capture.recorded.playlist_text import file_start
from flows.capture.segment import Segment
from flows.objects.cache import Copies

_TIMED: Final = (".ts", ".mp4")
"""Formats that keep the source's timestamps."""

_LOOKED_THROUGH: Final = 30
"""Most segments that are searched for the codec of audio that begins later."""

Packets: TypeAlias = "list[Packet[Any]]"


def bring_audio(copies: Copies, segments: Iterable[Segment]) -> None:
    """Fetch the audio of segments from the object store, as far as it is there."""
    stems: dict[Path, set[str]] = defaultdict(set)
    for segment in segments:
        stems[segment.path.parent / FOLDER].add(segment.path.stem)
    for folder, own in stems.items():

        def near(paths: list[Path], own: set[str] = own) -> set[Path]:
            there = in_order(paths)
            return {each.path for stem in own for each in around(there, stem)}

        copies.bring_some(folder, near)


class Media:
    """A segment's video and audio. audio: None without audio."""

    def __init__(self, pictures: InputContainer, audio: AudioStream | None) -> None:
        """Take what is open."""
        self.name, self._pictures = pictures.name, pictures
        self.video = pictures.streams.video[0]
        own = pictures.streams.audio
        self._own: AudioStream | None = own[0] if own else None
        self.audio: AudioStream | None = audio or self._own
        self._apart: list[tuple[InputContainer, AudioFile, timedelta | None]] = []

    @property
    def streams(self) -> list[Stream]:
        """The picture's stream, and the audio's if there is one."""
        return [self.video, *([self.audio] if self.audio is not None else [])]

    @property
    def has_audio_apart(self) -> bool:
        """Whether there is audio in files of its own."""
        return bool(self._apart)

    def packets(self) -> tuple[Packets, Packets]:
        """Return the packets of picture and of audio, on one clock."""
        own = [] if self._own is None or self.audio is not self._own else [self._own]
        found = [
            packet
            for packet in self._pictures.demux([self.video, *own])
            if packet.pts is not None and packet.dts is not None
        ]
        pictures = [packet for packet in found if packet.stream is self.video]
        audio = [packet for packet in found if packet.stream is not self.video]
        if pictures:
            first_s = min(seconds_of(packet) for packet in pictures)
            for each in self._apart:
                audio += _on_clock(*each, first_s)
        return pictures, audio


class AudioBeside:
    """Finds what was recorded beside segments; reads each folder once."""

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._of: dict[Path, Sequence[AudioFile]] = {}
        self._starts: dict[str, datetime] = {}

    @classmethod
    def of(cls, files: Sequence[AudioFile], segments: Sequence[Segment]) -> Self:
        """Return one that already has the files of these segments, in order."""
        made = cls()
        for each in segments:
            made._of.setdefault(each.path.parent, files)
        made._starts = {each.path.stem: file_start(each) for each in segments}
        return made

    @contextmanager
    def beside(
        self, segment: Segment, pictures: InputContainer, others: Sequence[Segment]
    ) -> Iterator[Media]:
        """Open a segment's audio with its pictures.

        others: give the codec if this one has no audio.
        """
        self._starts[segment.path.stem] = file_start(segment)
        with ExitStack() as stack:
            apart = [
                (opened, audio, since)
                for audio, since in self._near(segment)
                if (opened := _opened(audio, stack)) is not None
            ]
            audio = apart[0][0].streams.audio[0] if apart else None
            if audio is None and not pictures.streams.audio:
                audio = self._audio_of(others[:_LOOKED_THROUGH], stack)
            media = Media(pictures, audio)
            media._apart = apart
            yield media

    def _near(self, segment: Segment) -> list[tuple[AudioFile, timedelta | None]]:
        """Return the audio of a segment, each with the time by which the pictures precede it."""
        folder, stem = segment.path.parent, segment.path.stem
        if folder not in self._of:
            self._of[folder] = audio_in(folder)
        run = f"{stem.rpartition('-')[0]}-"
        start = file_start(segment)
        found: list[tuple[AudioFile, timedelta | None]] = []
        for each in around(self._of[folder], stem):
            if not each.piece.startswith(run) or (each.piece > stem and each.offset >= 0):
                continue
            began = start if each.piece == stem else self._starts.get(each.piece)
            since = None if began is None else start - began
            if each.path.suffix in _TIMED or since is not None:
                found.append((each, since))
        return found

    def _audio_of(self, others: Sequence[Segment], stack: ExitStack) -> AudioStream | None:
        for segment in others:
            for audio, _ in self._near(segment):
                if (opened := _opened(audio, stack)) is not None:
                    return opened.streams.audio[0]
        return None


def _opened(audio: AudioFile, stack: ExitStack) -> InputContainer | None:
    """Open a file of audio; None for one that is gone or can't be read: pictures go without it."""
    with suppress(av.FFmpegError):
        options = {"protocol_whitelist": "file"}
        found = av.open(f"file:{audio.path}", "r", format=audio.format, options=options)
        stack.enter_context(found)
        return found if found.streams.audio else None
    return None


def _on_clock(
    container: InputContainer, audio: AudioFile, since: timedelta | None, picture_s: float
) -> Packets:
    """Return an audio file's packets with the times that they have beside a segment's pictures.

    picture_s: when those begin. since: how long before them its own pictures began.
    """
    packets = [
        packet
        for packet in container.demux(container.streams.audio[0])
        if packet.pts is not None and packet.dts is not None
    ]
    if not packets:
        return []
    first_s = min(seconds_of(packet) for packet in packets)
    if since is not None and (audio.path.suffix not in _TIMED):
        at_s = audio.offset_s - since.total_seconds()
    else:
        at_s = ticks_from(_ticks(picture_s), _ticks(first_s)) / TICKS_PER_S
    for packet in packets:
        scale = packet.time_base or Fraction(1, TICKS_PER_S)
        shift = round((picture_s + at_s - first_s) / scale)
        packet.pts, packet.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
    return packets


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_S)


def is_out_of_band(stream: Stream) -> bool:
    """Return whether a stream's parameters are outside of its packets; MPEG-TS has them inside."""
    return stream.container.format.name != "mpegts"


def seconds_of(packet: Packet[Any]) -> float:
    """Return when a packet is shown, by the timestamps of its file."""
    return float((packet.pts or 0) * (packet.time_base or Fraction(0)))
