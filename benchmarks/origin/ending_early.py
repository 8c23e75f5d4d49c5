"""Sources of six segments of 2 s, with and without pictures that are held."""

import io
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import av

from flows.capture.processes import find_ffmpeg

N_SEGMENTS: Final = 6
SEGMENT_S: Final = 2.0
PACKET_BYTES: Final = 188

_X264: Final = ("-c:v", "libx264", "-preset", "superfast", "-sc_threshold", "0")
_PLAIN: Final = ("-bf", "0")
_B: Final = ("-bf", "3", "-b_strategy", "0", "-x264-params", "b-pyramid=normal")
_OPEN: Final = (
    *("-bf", "8", "-b_strategy", "0", "-x264-params", "open-gop=1:b-pyramid=normal"),
    *("-flags", "+global_header", "-bsf:v", "dump_extra=freq=keyframe"),
)
_QUIET: Final = ("-an",)
_SOUND: Final = ("-c:a", "aac", "-b:a", "32k")
_EMPTY: Final = "+empty_moov+default_base_moof"
_EACH: Final = ("-f", "mp4", "-movflags", "+frag_every_frame" + _EMPTY)
"""fMP4, with a fragment for each picture."""

_LONGER: Final = ("-f", "mp4", "-movflags", "+frag_keyframe" + _EMPTY, "-frag_duration", "250000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A source: a test card of so many pictures a second, and how it is encoded.

    shown: an expression of ffmpeg's `select`, where pictures are held. restarts: counters begin
    with each segment.
    """

    options: tuple[str, ...]
    fps: int = 12
    shown: str = ""
    restarts: bool = False

    @property
    def fragmented(self) -> bool:
        """Whether it is fMP4."""
        return "mp4" in self.options

    def make(self, folder: Path) -> list[bytes]:
        """Return its segments, with their header if fMP4."""
        command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i"]
        command += [f"testsrc2=size=160x90:rate={self.fps}", "-f", "lavfi", "-i"]
        command += ["sine=frequency=300", "-t", str(N_SEGMENTS * SEGMENT_S), *_X264, "-g", "500"]
        command += ["-force_key_frames", f"expr:gte(t,n_forced*{SEGMENT_S})", *self.options]
        if self.shown:
            command += ["-vf", f"select='{self.shown}'", "-fps_mode", "passthrough"]
        if self.fragmented:
            path = folder / "a.mp4"
            subprocess.run([*command, str(path)], check=True, stdin=subprocess.DEVNULL)
            return _fragments(path.read_bytes())
        command += ["-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_list_size", "0"]
        subprocess.run([*command, str(folder / "a.m3u8")], check=True, stdin=subprocess.DEVNULL)
        names = [name for name in (folder / "a.m3u8").read_text().split() if name[0] != "#"]
        media = [(folder / name).read_bytes() for name in names if name.endswith(".ts")]
        return [_restarted(each) for each in media] if self.restarts else media


def boxes_of(data: bytes) -> list[tuple[bytes, int]]:
    """Return the name and place of each box, and where the last one ends."""
    found, at = list[tuple[bytes, int]](), 0
    while at < len(data):
        found.append((data[at + 4 : at + 8], at))
        at += int.from_bytes(data[at : at + 4], "big")
    return [*found, (b"", at)]


def _fragments(data: bytes) -> list[bytes]:
    """Return the segments of a file with a fragment for each picture and many for the sound."""
    boxes = boxes_of(data)
    places = [at for name, at in boxes if name == b"moof"]
    head, end = data[: places[0]], next(at for name, at in boxes if name in (b"mfra", b""))
    with av.open(io.BytesIO(data)) as found:
        keys = [p.pos for p in found.demux(found.streams.video[0]) if p.size and p.is_keyframe]
    begins = [max(at for at in places if at <= key) for key in keys]
    return [head + data[a:b] for a, b in pairwise([*begins, end])]


def _restarted(data: bytes) -> bytes:
    """Return MPEG-TS whose continuity counters begin with 0."""
    changed, counters = bytearray(data), dict[int, int]()
    for at in range(0, len(data), PACKET_BYTES):
        pid = (data[at + 1] & 31) << 8 | data[at + 2]
        counter = counters.get(pid, 0)
        changed[at + 3] = data[at + 3] & 0xF0 | counter
        counters[pid] = (counter + (data[at + 3] >> 4 & 1)) % 16
    return bytes(changed)


_CARD: Final = "lt(mod(t,2),0.98)"
"""Twelve pictures, and the last is held."""

_ONE: Final = "lt(mod(t,2),0.08)"
_UNEVEN: Final = "not(mod(floor(random(1)*3),3))+lt(mod(t,2),0.08)"
_AT_TIMES: Final = "lt(mod(t,6),4.9)+gte(mod(t,6),6)"
"""Each third segment ends with a picture that is held."""

SOURCES: Final = {
    "without sound": Source(options=(*_PLAIN, *_QUIET)),
    "without sound, B-pictures": Source(options=(*_B, *_QUIET)),
    "without sound, open GOP": Source(options=(*_OPEN, *_QUIET)),
    "counted anew": Source(options=(*_PLAIN, *_QUIET), restarts=True),
    "counted anew, B-pictures": Source(options=(*_B, *_QUIET), restarts=True),
    "with sound": Source(options=(*_PLAIN, *_SOUND)),
    "with sound, B-pictures": Source(options=(*_B, *_SOUND)),
    "with sound, open GOP": Source(options=(*_OPEN, *_SOUND)),
    "fMP4": Source(options=(*_B, *_QUIET, *_EACH)),
    "fMP4 with sound": Source(options=(*_B, *_SOUND, *_LONGER)),
    "held after twelve": Source(options=(*_PLAIN, *_QUIET), shown=_CARD),
    "held after twelve, B-pictures": Source(options=(*_B, *_QUIET), shown=_CARD),
    "held after twelve, counted anew": Source(
        options=(*_PLAIN, *_QUIET), shown=_CARD, restarts=True
    ),
    "one picture": Source(options=(*_PLAIN, *_QUIET), shown=_ONE),
    "one picture, counted anew": Source(options=(*_PLAIN, *_QUIET), shown=_ONE, restarts=True),
    "uneven": Source(options=(*_PLAIN, *_QUIET), shown=_UNEVEN),
    "uneven, B-pictures": Source(options=(*_B, *_QUIET), shown=_UNEVEN),
    "uneven, B-pictures, counted anew": Source(
        options=(*_B, *_QUIET), shown=_UNEVEN, restarts=True
    ),
    "uneven, B-pictures, with sound": Source(options=(*_B, *_SOUND), shown=_UNEVEN),
    "held after twelve, with sound": Source(options=(*_B, *_SOUND), shown=_CARD),
    "held at times": Source(options=(*_PLAIN, *_QUIET), shown=_AT_TIMES),
    "held at times, counted anew": Source(
        options=(*_PLAIN, *_QUIET), shown=_AT_TIMES, restarts=True
    ),
    "fMP4, held after twelve": Source(options=(*_B, *_QUIET, *_EACH), shown=_CARD),
}
