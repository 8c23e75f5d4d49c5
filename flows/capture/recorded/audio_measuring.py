"""Where in time a segment of audio lies, and what it is: read from its file."""

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import av

from emotion.media.limits import SEGMENT, TooMuch, options, require_bounded
from flows.capture.recorded.audio import FORMATS, Measured
from flows.capture.recorded.media import TICKS_PER_S
from flows.capture.segment import UnreadableMedia

_ID3: Final = b"ID3"
_TIMESTAMP: Final = b"com.apple.streaming.transportStreamTimestamp\0"
"""The owner of the ID3 frame with the first sample's time (RFC 8216, 3.4)."""

_MAX_TICKS: Final = 600 * TICKS_PER_S


def measure_audio(path: Path, *, fragmented: bool) -> Measured:
    """Read where in time a fetched segment of audio lies; raises UnreadableMedia."""
    with path.open("rb") as file:
        head = file.read(4096)
    suffix = ".mp4" if fragmented else _suffix_of(head)
    packed_at = None if suffix in (".ts", ".mp4") else _timestamp_in(head)
    try:
        require_bounded(path, SEGMENT)
        limits = {"protocol_whitelist": "file"} | options(SEGMENT)
        with av.open(f"file:{path}", "r", format=FORMATS[suffix], options=limits) as found:
            if not found.streams.audio:
                raise UnreadableMedia(f"{path.name} holds no audio")
            first = end = None
            for packet in islice(found.demux(found.streams.audio[0]), SEGMENT.samples):
                if packet.pts is None:
                    continue
                scale = (packet.time_base or Fraction(1, TICKS_PER_S)) * TICKS_PER_S
                at = round(packet.pts * scale)
                first = at if first is None else min(first, at)
                end = max(end or at, at + round((packet.duration or 0) * scale))
    except (av.FFmpegError, OSError, IndexError, ValueError, TooMuch) as e:
        raise UnreadableMedia(f"{path.name} can't be read: {e}") from e
    if first is None or end is None or not 0 < end - first < _MAX_TICKS:
        raise UnreadableMedia(f"{path.name} holds no audio")
    begins = first if packed_at is None else packed_at
    return Measured(first=begins, length=end - first, suffix=suffix)


def _suffix_of(head: bytes) -> str:
    if head.startswith(b"\x47"):
        return ".ts"
    begin = head[_length_of_tag(head) :] if head.startswith(_ID3) else head
    if begin.startswith(b"\x0b\x77"):
        return ".ac3"
    # ISO/IEC 13818-7, 6.2: twelve bits set, and a layer of 0; MPEG audio has another.
    if len(begin) > 1 and begin[0] == 0xFF and begin[1] & 0xF6 == 0xF0:
        return ".aac"
    return ".mp3"


def _length_of_tag(head: bytes) -> int:
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _timestamp_in(head: bytes) -> int:
    """Return when packed audio begins; raises UnreadableMedia where it does not say."""
    at = head.find(_TIMESTAMP)
    stamp = head[at + len(_TIMESTAMP) :][:8]
    if at < 0 or len(stamp) < 8:
        raise UnreadableMedia("packed audio that does not say when it begins")
    return int.from_bytes(stamp, "big") & ((1 << 33) - 1)
