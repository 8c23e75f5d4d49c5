"""Puts a recorded segment of audio on the clock of its pictures, where that is not the source's."""

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import av

from emotion.media.limits import SEGMENT, TooMuch, options, require_bounded
from flows.capture.recorded.audio import FORMATS, Measured
from flows.capture.recorded.media import TICKS_PER_S, WRAP, ticks_from
from flows.capture.segment import UnreadableMedia

_WRITING: Final = {"mpegts_copyts": "1"}


def shift(path: Path, measured: Measured, *, by: int) -> tuple[Measured, int]:
    """Rewrite a file as MPEG-TS whose timestamps are later by some ticks.

    Return what it is now, and how many ticks were cut off its beginning, as they were before 0.
    Raises UnreadableMedia, OSError.
    """
    begins = ticks_from(0, (measured.first + by) % WRAP)
    into = path.with_name(f"{path.stem}-shifted.tmp")
    try:
        first = _copy(path, into, format_=FORMATS[measured.suffix], begins=begins)
        if first is None:
            raise UnreadableMedia(f"{path.name} holds no audio on its pictures' clock")
        into.replace(path)
    except (av.FFmpegError, IndexError, ValueError, TooMuch) as e:
        raise UnreadableMedia(f"{path.name} can't be read: {e}") from e
    finally:
        into.unlink(missing_ok=True)
    cut = first - begins
    return Measured(first=first, length=measured.length - cut, suffix=".ts"), cut


def _copy(path: Path, into: Path, *, format_: str, begins: int) -> int | None:
    """Copy the packets from 0 on; return the first one's time, None without any."""
    require_bounded(path, SEGMENT)
    reading = {"protocol_whitelist": "file"} | options(SEGMENT)
    copied: int | None = None
    with (
        av.open(f"file:{path}", "r", format=format_, options=reading) as found,
        av.open(
            f"file:{into}",
            "w",
            format="mpegts",
            options=_WRITING,
            container_options={"avoid_negative_ts": "disabled"},
        ) as out,
    ):
        audio = found.streams.audio[0]
        made = out.add_stream_from_template(audio)
        first: Fraction | None = None
        for packet in islice(found.demux(audio), SEGMENT.samples):
            if packet.pts is None or packet.time_base is None:
                continue
            at = packet.pts * packet.time_base * TICKS_PER_S
            first = at if first is None else first
            ticks = begins + round(at - first)
            if ticks < 0:
                continue
            packet.pts = packet.dts = round(ticks / TICKS_PER_S / packet.time_base)
            packet.stream = made
            out.mux(packet)
            copied = ticks if copied is None else copied
    return copied
