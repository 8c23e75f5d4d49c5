"""Playlists that start at a chosen time, in a broadcast's folder `play`, for players.

While the broadcast is recorded, new segments are appended, so that a player reaches the live edge.
Deleted files are removed from their beginning (RFC 8216, 6.2.2: the media sequence and the
discontinuity sequence advance).
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from filelock import FileLock

from flows.capture.recorded import audio_playlists
from flows.capture.recorded.journal import read_events
from flows.capture.recorded.playlist_text import (
    DISCONTINUITY,
    END,
    file_names,
    file_s,
    file_start,
    playlist_entry,
    playlist_head,
    target_of,
    trim_playlist,
)
from flows.capture.segment import Gap, Segment
from flows.capture.state import write_whole

FOLDER: Final = "play"

_MAX_FOLLOWED: Final = 16
"""Most playlists of a broadcast; the oldest is deleted for a new one."""

_LOCK_S: Final = 2.0
_TAIL_BYTES: Final = 4096


def write_playlist(
    directory: Path, segments: Sequence[Segment], *, at: datetime, ended: bool
) -> Path:
    """Write a broadcast's playlist that starts at a time, and return the file to open.

    segments: from the one that contains `at`, in order; at least one, their files exist. ended:
    nothing will be appended. Raises OSError.
    """
    first = segments[0]
    head = playlist_head(segments, sequence=first.sequence, discontinuities=0, ended=ended)
    skip_s = (at - file_start(first)).total_seconds()
    if skip_s > 0:
        head += f"#EXT-X-START:TIME-OFFSET={skip_s:.3f},PRECISE=YES\n"
    before: Segment | None = None
    entries = ""
    for segment in segments:
        entries += playlist_entry(segment, before, name=f"../{segment.path.name}")
        before = segment
    text = head + entries + (END if ended else "")
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{at:%Y%m%dT%H%M%SZ}.m3u8"
    with _locked(folder):
        write_whole(path, text, durable=False)
        there = sorted(folder.glob("*.m3u8"), key=lambda each: each.stat().st_mtime)
        for old in there[:-_MAX_FOLLOWED]:
            old.unlink(missing_ok=True)
        return audio_playlists.write(directory, path, segments)


def follow(directory: Path, events: Sequence[Segment | Gap]) -> None:
    """Append new segments to the broadcast's open playlists. Raises OSError."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    with _locked(folder):
        for path in folder.glob("*.m3u8"):
            _append(path, events)
        audio_playlists.refresh(folder, events)


def end(directory: Path) -> None:
    """End the broadcast's open playlists (EXT-X-ENDLIST). Raises OSError."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    with _locked(folder):
        for path in folder.glob("*.m3u8"):
            if _last_name(path) is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(END)
        if audio_playlists.is_in(folder):
            audio_playlists.refresh(folder, read_events(directory))


def trim(directory: Path, gone: Collection[str], *, current: Path | None) -> None:
    """Remove deleted files from the beginning of the broadcast's playlists. Raises OSError.

    gone: names of files. current: the playlist that a running capture writes; not changed. A
    playlist that becomes empty is deleted.
    """
    for path in directory.glob("*.m3u8"):
        if path != current:
            trim_playlist(path, gone)
    folder = directory / FOLDER
    if folder.is_dir():
        with _locked(folder):
            for path in folder.glob("*.m3u8"):
                trim_playlist(path, gone)
            if audio_playlists.is_in(folder):
                audio_playlists.refresh(folder, read_events(directory))


def names_in(playlist: Path) -> set[str]:
    """Return the names of the files in a playlist; empty if there is no playlist."""
    try:
        return set(file_names(playlist.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError:
        return set()


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
        return  # it is of another broadcast's segments
    text = ""
    for segment in reversed(new):
        if segment.path.exists():
            discontinuity = "" if before is not None else DISCONTINUITY
            text += discontinuity + playlist_entry(segment, before, name=f"../{segment.path.name}")
            before = segment
        else:
            before = None
    if not text:
        return
    longest = max(target_of(file_s(segment)) for segment in new)
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
    """Return the name of the last file in an open playlist; None for one that has ended.

    An incomplete entry after it, left by a crash, is removed.
    """
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if tail.endswith(END.encode()):
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder's playlists; raises Timeout, an OSError, if they stay locked."""
    with FileLock(folder / ".lock", timeout=_LOCK_S):
        yield
