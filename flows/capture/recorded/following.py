"""Playlists from a moment on: in a broadcast's folder `play`, beside the files that they list.

While the broadcast is recorded, each new segment is appended to them, so that a player which began
at that moment goes on to the live edge. Where old files are deleted, they leave the playlists'
heads (RFC 8216, 6.2.2: the media sequence and the discontinuity sequence move on).
"""

import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from filelock import FileLock

from flows.capture.segment import Gap, Segment
from flows.capture.state import write_whole

FOLDER: Final = "play"

_MAX_FOLLOWED: Final = 16
"""Most playlists of a broadcast; the oldest makes room for the next."""

_LOCK_S: Final = 2.0
_TAIL_BYTES: Final = 4096
_DISCONTINUITY: Final = "#EXT-X-DISCONTINUITY\n"
_END: Final = "#EXT-X-ENDLIST\n"
_OF_ALL: Final = re.compile(
    r"#(EXTM3U|EXT-X-(VERSION|TARGETDURATION|MEDIA-SEQUENCE|DISCONTINUITY-SEQUENCE|PLAYLIST-TYPE"
    r"|INDEPENDENT-SEGMENTS|START)\b)"
)


def write_playlist(
    directory: Path, segments: Sequence[Segment], *, at: datetime, ended: bool
) -> Path:
    """Write a broadcast's playlist that starts at a moment, and return its path.

    segments: from the one that holds the moment on, in order; at least one, their files there.
    ended: nothing will be appended. Raises OSError.
    """
    first = segments[0]
    head = playlist_head(segments, sequence=first.sequence, discontinuities=0, ended=ended)
    skip_s = (at - _file_start(first)).total_seconds()
    if skip_s > 0:
        head += f"#EXT-X-START:TIME-OFFSET={skip_s:.3f},PRECISE=YES\n"
    before: Segment | None = None
    entries = ""
    for segment in segments:
        entries += playlist_entry(segment, before, name=f"../{segment.path.name}")
        before = segment
    text = head + entries + (_END if ended else "")
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{at:%Y%m%dT%H%M%SZ}.m3u8"
    with _locked(folder):
        write_whole(path, text, durable=False)
        there = sorted(folder.glob("*.m3u8"), key=lambda each: each.stat().st_mtime)
        for old in there[:-_MAX_FOLLOWED]:
            old.unlink(missing_ok=True)
    return path


def playlist_head(
    segments: Sequence[Segment], *, sequence: int, discontinuities: int, ended: bool
) -> str:
    """Return what stands before the segments of a playlist; at least one."""
    longest = max(_file_s(segment) for segment in segments)
    lines = [f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{_target(longest)}"]
    lines += [f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    lines += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"]
    lines += ["#EXT-X-PLAYLIST-TYPE:VOD"] if ended else []
    return "\n".join(lines) + "\n"


def follow(directory: Path, events: Sequence[Segment | Gap]) -> None:
    """Append to the broadcast's open playlists what they lack of its events. Raises OSError."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    with _locked(folder):
        for path in folder.glob("*.m3u8"):
            _append(path, events)


def end(directory: Path) -> None:
    """Say in the broadcast's open playlists that nothing more will come. Raises OSError."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    with _locked(folder):
        for path in folder.glob("*.m3u8"):
            if _last_name(path) is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(_END)


def trim(directory: Path, gone: Collection[str], *, current: Path | None) -> None:
    """Take deleted files out of the heads of the broadcast's playlists. Raises OSError.

    gone: names of files. current: the playlist that a running capture writes, left to it. One that
    lists nothing any more is deleted.
    """
    for path in directory.glob("*.m3u8"):
        if path != current:
            _trim(path, gone)
    folder = directory / FOLDER
    if folder.is_dir():
        with _locked(folder):
            for path in folder.glob("*.m3u8"):
                _trim(path, gone)


def names_in(playlist: Path) -> set[str]:
    """Return the names of the files that a playlist lists; none where there is no playlist."""
    try:
        lines = playlist.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    return {line.rpartition("/")[2] for line in lines if line and not line.startswith("#")}


def _append(path: Path, events: Sequence[Segment | Gap]) -> None:
    name = _last_name(path)
    if name is None:
        return
    new: list[Segment] = []
    before: Segment | None = None
    for event in reversed(events):
        if isinstance(event, Gap):
            continue
        if event.path.name == name:
            before = event
            break
        new.append(event)
    if before is None:
        return  # It lists something else.
    text = ""
    for segment in reversed(new):
        if segment.path.exists():
            discontinuity = "" if before is not None else _DISCONTINUITY
            text += discontinuity + playlist_entry(segment, before, name=f"../{segment.path.name}")
            before = segment
        else:
            before = None
    if not text:
        return
    longest = max(_target(_file_s(segment)) for segment in new)
    with path.open("r+", encoding="utf-8", errors="replace") as file:
        head = file.read(200)
        known = re.search(r"TARGETDURATION:(\d+)", head)
        if known is None or int(known[1]) >= longest:
            file.seek(0, os.SEEK_END)
            file.write(text)
            return
        file.seek(0)
        whole = file.read()
    target = f"TARGETDURATION:{longest}"
    write_whole(path, re.sub(r"TARGETDURATION:\d+", target, whole, count=1) + text, durable=False)


def _last_name(path: Path) -> str | None:
    """Return the name of the last file that an open playlist lists; None for one that has ended.

    What a crash has left of an entry after it is taken off.
    """
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if tail.endswith(_END.encode()):
            return None
        lines = tail.split(b"\n")
        cut = len(lines.pop())  # what follows the last end of a line
        while lines and (not lines[-1] or lines[-1].startswith(b"#")):
            cut += len(lines.pop()) + 1
        if not lines:
            return None
        if cut:
            file.truncate(size - cut)
        return lines[-1].decode(errors="replace").rpartition("/")[2]


def playlist_entry(
    segment: Segment, before: Segment | None, *, name: str, init: str | None = None
) -> str:
    """Return a segment's lines in a playlist. before: the one that it follows; None: none.

    name: its address there. init: that of its initialisation section, of fMP4 whose file is not
    here; None: that is in its file. Raises OSError.
    """
    path = segment.path
    date = _file_start(segment).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [f"#EXT-X-PROGRAM-DATE-TIME:{date}", f"#EXTINF:{_file_s(segment):.6f},"]
    goes_on = before is None or (segment.continuous and before.end == segment.start)
    init_bytes = init_bytes_of(path) if path.suffix == ".mp4" and init is None else 0
    if init is not None:
        lines.insert(0, f'#EXT-X-MAP:URI="{init}"')
    if init_bytes:
        lines.insert(0, f'#EXT-X-MAP:URI="{name}",BYTERANGE="{init_bytes}@0"')
        lines.append(f"#EXT-X-BYTERANGE:{path.stat().st_size - init_bytes}@{init_bytes}")
    if not goes_on:
        lines.insert(0, _DISCONTINUITY.rstrip())
    return "\n".join([*lines, name, ""])


def init_bytes_of(path: Path) -> int:
    """Return how long the initialisation section is that a file of fMP4 begins with."""
    with path.open("rb") as file:
        at = 0
        while len(head := file.read(8)) == 8 and head[4:] in (b"ftyp", b"moov", b"free"):
            at += int.from_bytes(head[:4], "big")
            file.seek(at)
    return at


def _trim(path: Path, gone: Collection[str]) -> None:
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
    cuts = sum(_DISCONTINUITY in entry for entry in dropped)
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


def _file_start(segment: Segment) -> datetime:
    return segment.start - timedelta(seconds=segment.offset_s)


def _file_s(segment: Segment) -> float:
    return segment.offset_s + segment.duration_s


def _target(longest_s: float) -> int:
    # RFC 8216, 4.3.3.1: durations are rounded to the nearest integer.
    return max(1, math.floor(longest_s + 0.5))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have a folder's playlists for oneself; Timeout, an OSError, if somebody else keeps them."""
    with FileLock(folder / ".lock", timeout=_LOCK_S):
        yield
