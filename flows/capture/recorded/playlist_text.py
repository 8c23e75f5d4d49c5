"""The text of playlists of what was recorded: heads and entries, and what is taken off them."""

import math
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.segment import Segment
from flows.capture.state import write_whole

DISCONTINUITY: Final = "#EXT-X-DISCONTINUITY\n"
END: Final = "#EXT-X-ENDLIST\n"
_OF_ALL: Final = re.compile(
    r"#(EXTM3U|EXT-X-(VERSION|TARGETDURATION|MEDIA-SEQUENCE|DISCONTINUITY-SEQUENCE|PLAYLIST-TYPE"
    r"|INDEPENDENT-SEGMENTS|START)\b)"
)


def playlist_head(
    segments: Sequence[Segment], *, sequence: int, discontinuities: int, ended: bool
) -> str:
    """Return what stands before the segments of a playlist; at least one."""
    longest = max(file_s(segment) for segment in segments)
    lines = [f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target_of(longest)}"]
    lines += [f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    lines += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"]
    lines += ["#EXT-X-PLAYLIST-TYPE:VOD"] if ended else []
    return "\n".join(lines) + "\n"


def playlist_entry(
    segment: Segment, before: Segment | None, *, name: str, init: str | None = None
) -> str:
    """Return a segment's lines in a playlist. before: the one that it follows; None: none.

    name: its address there. init: that of its initialisation section, of fMP4 whose file is not
    here; None: that is in its file. Raises OSError.
    """
    start, length_s = file_start(segment), file_s(segment)
    lines = file_lines(segment.path, start=start, length_s=length_s, name=name, init=init)
    if not goes_on(segment, before):
        lines.insert(0, DISCONTINUITY.rstrip())
    return "\n".join([*lines, ""])


def file_lines(
    path: Path, *, start: datetime, length_s: float, name: str, init: str | None = None
) -> list[str]:
    """Return the lines of a file in a playlist; name, init: as in `playlist_entry`."""
    date = start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [f"#EXT-X-PROGRAM-DATE-TIME:{date}", f"#EXTINF:{length_s:.6f},"]
    head = init_bytes_of(path) if path.suffix == ".mp4" and init is None else 0
    if init is not None:
        lines.insert(0, f'#EXT-X-MAP:URI="{init}"')
    if head:
        lines.insert(0, f'#EXT-X-MAP:URI="{name}",BYTERANGE="{head}@0"')
        lines.append(f"#EXT-X-BYTERANGE:{path.stat().st_size - head}@{head}")
    return [*lines, name]


def file_names(text: str) -> list[str]:
    """Return the names of the files in a playlist, without their folders, in order."""
    lines = text.splitlines()
    return [line.rpartition("/")[2] for line in lines if line and not line.startswith("#")]


def goes_on(segment: Segment, before: Segment | None) -> bool:
    """Return whether a segment continues the one before; before None: there is none."""
    return before is None or (segment.continuous and before.end == segment.start)


def init_bytes_of(path: Path) -> int:
    """Return how long the initialisation section is that a file of fMP4 begins with."""
    with path.open("rb") as file:
        at = 0
        while len(head := file.read(8)) == 8 and head[4:] in (b"ftyp", b"moov", b"free"):
            at += int.from_bytes(head[:4], "big")
            file.seek(at)
    return at


def trim_playlist(path: Path, gone: Collection[str]) -> None:
    """Take deleted files, by their names, out of a playlist's head; raises OSError."""
    head, entries, tail = _parse(path.read_text(encoding="utf-8", errors="replace"))
    kept = len(entries)
    while kept and entries[kept - 1].splitlines()[-1].rpartition("/")[2] not in gone:
        kept -= 1
    dropped, entries = entries[:kept], entries[kept:]
    if not dropped:
        return
    if not entries:
        path.unlink(missing_ok=True)
        return
    cuts = sum(DISCONTINUITY in entry for entry in dropped)
    head = re.sub(r"#EXT-X-START:.*\n", "", head)
    head = _moved(head, "#EXT-X-MEDIA-SEQUENCE", len(dropped))
    head = _moved(head, "#EXT-X-DISCONTINUITY-SEQUENCE", cuts)
    write_whole(path, head + "".join(entries) + tail, durable=False)


def _moved(head: str, tag: str, by: int) -> str:
    found = re.search(rf"{tag}:(\d+)\n", head)
    if found is None:
        return head + (f"{tag}:{by}\n" if by else "")
    return head.replace(found[0], f"{tag}:{int(found[1]) + by}\n")


def _parse(text: str) -> tuple[str, list[str], str]:
    """Return what stands before all segments, the lines of each, and what stands after them."""
    head, entries, lines = "", [], ""
    for line in text.splitlines(keepends=True):
        if _OF_ALL.match(line):
            head += line
        elif line.startswith("#") or not line.strip():
            lines += line
        else:
            entries.append(lines + line)
            lines = ""
    return head, entries, lines


def file_start(segment: Segment) -> datetime:
    """Return the date of the first frame in a segment's file."""
    return segment.start - timedelta(seconds=segment.offset_s)


def file_s(segment: Segment) -> float:
    """Return how long a segment's file is."""
    return segment.offset_s + segment.duration_s


def target_of(longest_s: float) -> int:
    """Return the target duration of a playlist by its longest segment."""
    # RFC 8216, 4.3.3.1: durations are rounded to the nearest integer.
    return max(1, math.floor(longest_s + 0.5))
