"""Packagings whose segments or playlists are made anew, for `benchmarks.origin.kinds`."""

import io
import re
from dataclasses import replace
from typing import Final, Literal

import av

from flows.demo.channel import LiveOrigin
from flows.demo.packaging import Packaging, Sealed
from flows.demo.server import Reply

_NUMBER: Final = re.compile(r"(\d{6,})\.ts$")
_SEGMENT: Final = re.compile(r"segment-\d+\.ts")
_PLACES: Final[dict[Literal["video", "audio"], str]] = {"video": "s-1", "audio": "s-2"}
_MASTER: Final = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="audio.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=400000,CODECS="avc1.4d401f,mp4a.40.2",AUDIO="a"
video.m3u8
"""
_BEFORE: Final = (b"ID3\4\0\0\0\0\0\5hello", bytes(100), bytes(range(60)))
"""A tag, zeros, and the rest of a packet."""


def of_an_hour(text: str) -> str:
    """Return a playlist with a target duration of an hour."""
    return re.sub(r"(TARGETDURATION:)\d+", r"\g<1>3600", text)


class PaddedOtherwise(Sealed):
    """Segments are encrypted; their padding is zeros, nines, or half a packet, in turn."""

    def pad(self, data: bytes, number: int) -> bytes:
        """Return whole blocks."""
        if number % 3 == 0:
            return data + bytes(-len(data) % 16)
        if number % 3 == 1:
            return data + bytes([9]) * (32 - len(data) % 16)
        return data + b"\x47\x1f\xff\x10" + b"\xff" * (-len(data) % 16 + 12)


class Dirty(Packaging):
    """Something stands before the packets of each segment."""

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it behind a tag, zeros, or the rest of a packet."""
        return replace(reply, body=_BEFORE[_number(path) % len(_BEFORE)] + reply.body)


class SoundApart(Packaging):
    """The playlist becomes a master playlist: one variant, and its sound in a rendition."""

    def __init__(self, origin: LiveOrigin) -> None:
        """Keep the origin, whose segments are taken apart."""
        self._origin = origin

    def playlist(self, text: str) -> str:
        """Return the master playlist."""
        return _MASTER

    def other(self, path: str) -> Reply | None:
        """Return the media playlist of the video, or of the sound."""
        for kind, place in _PLACES.items():
            if path.endswith(f"/{kind}.m3u8"):
                text = _SEGMENT.sub(rf"{place}/\g<0>", self._origin.playlist())
                return Reply(content_type="application/vnd.apple.mpegurl", body=text.encode())
        return None

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it without its sound, or the sound alone."""
        for kind, place in _PLACES.items():
            if f"/{place}/" in path:
                return replace(reply, body=_only(reply.body, kind))
        return reply


def _only(data: bytes, kind: Literal["video", "audio"]) -> bytes:
    """Return one stream of a segment, at the source's timestamps."""
    made = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(made, "w", format="mpegts", options={"mpegts_copyts": "1"}) as target,
    ):
        [stream] = source.streams.get(**{kind: 0})
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return made.getvalue()


def _number(path: str) -> int:
    found = _NUMBER.search(path)
    return int(found[1]) if found else 0
