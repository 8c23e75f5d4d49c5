"""MPEG-TS segments as fMP4, at the same timestamps, for a packager that changes its container."""

import io
import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

import av
from av.audio.stream import AudioStream

from flows.demo.channel import LiveOrigin
from flows.demo.packaging import Packaging
from flows.demo.server import Reply

_ENTRY: Final = re.compile(
    r"((?:#EXT-X-PROGRAM-DATE-TIME[^\n]*\n)?#EXTINF[^\n]*\n)segment-(\d+)\.ts"
)
_AT_SOURCE_TIMES: Final = {
    "movflags": "delay_moov+default_base_moof+frag_discont",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}
_ADTS_BYTES: Final = 7
"""Of a header without a checksum (ISO/IEC 13818-7, 6.2)."""


class Fragments(Packaging):
    """From now on, or for a while, segments are fMP4, in a playlist with MPEG-TS ones."""

    def __init__(self, origin: LiveOrigin) -> None:
        """Begin with the next segment."""
        self._origin, self._first = origin, origin.published
        self._end: int | None = None

    def end(self) -> None:
        """Send MPEG-TS again from the next segment on; no tag says so, as there is none for it."""
        self._end = self._origin.published

    def _has(self, number: int) -> bool:
        return number >= self._first and (self._end is None or number < self._end)

    def playlist(self, text: str) -> str:
        """Return it with the initialisation section, and a discontinuity at each change."""

        def entry(found: re.Match[str]) -> str:
            number = int(found[2])
            changes = "#EXT-X-DISCONTINUITY\n" if number in (self._first, self._end) else ""
            place = "s-1/" if self._has(number) else ""
            begins = self._has(number) and (not self._has(number - 1) or found.start() == first)
            said = '#EXT-X-MAP:URI="init.mp4"\n' if begins else ""
            return f"{changes}{said}{found[1]}{place}segment-{found[2]}.ts"

        first = next((found.start() for found in _ENTRY.finditer(text)), 0)
        return _ENTRY.sub(entry, text)

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it as fMP4."""
        return replace(reply, body=fragmented(reply.body)[1]) if "/s-1/" in path else reply

    def other(self, path: str) -> Reply | None:
        """Return the initialisation section."""
        if not path.endswith("/init.mp4"):
            return None
        init, _ = fragmented(self._origin.bytes_of(self._first))
        return Reply(content_type="video/mp4", body=init)


@lru_cache(maxsize=64)
def fragmented(data: bytes) -> tuple[bytes, bytes]:
    """Return a segment's initialisation section and its media, as fMP4."""
    made = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(made, "w", format="mp4", options=_AT_SOURCE_TIMES) as target,
    ):
        streams = [*source.streams.video[:1], *source.streams.audio[:1]]
        copies = {stream.index: target.add_stream_from_template(stream) for stream in streams}
        for packet in source.demux(streams):
            if packet.dts is None:
                continue
            copy = copies[packet.stream.index]
            if isinstance(packet.stream, AudioStream):
                # AAC of MPEG-TS has a header in each frame, which MP4 refuses (EPERM).
                frame = bytes(packet)
                copy.codec_context.extradata = _aac_config(frame)
                bare = av.Packet(frame[_ADTS_BYTES:])
                bare.pts, bare.dts, bare.duration = packet.pts, packet.dts, packet.duration
                bare.time_base, bare.is_keyframe = packet.time_base, True
                packet = bare
            packet.stream = copy
            target.mux(packet)
    whole = made.getvalue()
    begin, end = whole.index(b"moof") - 4, whole.rindex(b"mfra") - 4
    return whole[:begin], whole[begin:end]


def _aac_config(frame: bytes) -> bytes:
    """Return the AudioSpecificConfig of a frame with a header (ISO/IEC 14496-3, 1.6.2.1)."""
    profile, rate = (frame[2] >> 6) + 1, (frame[2] >> 2) & 15
    channels = ((frame[2] & 1) << 2) | (frame[3] >> 6)
    return bytes([(profile << 3) | (rate >> 1), ((rate & 1) << 7) | (channels << 3)])
