"""Recordings for a browser: playlists of what is on disk, files by show and segment number.

A file's address never changes: a segment's number is used once in a show.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.capture.recorded.audio import FOLDER as AUDIO
from flows.capture.recorded.audio import AudioFile, around, audio_in
from flows.capture.recorded.journal import JOURNAL, read_events
from flows.capture.recorded.playlist_text import END, init_bytes_of, playlist_entry, playlist_head
from flows.capture.recorded.runs import PIECE
from flows.capture.segment import Segment
from flows.page.reading.show_queries import ShowRow
from flows.recordings.finding import folder_of, segment_of

if TYPE_CHECKING:
    from flows.page.media.stored import Stored

REMEMBERED: Final = 16
"""Most shows whose lists of files are kept in memory."""

LIVE_SEGMENTS: Final = 60
"""Most segments, the newest, in the playlist of a show on air."""


AUDIO_WAIT_S: Final = 60.0
"""Most seconds that audio may come later than its file of pictures."""


class CopyGone(Exception):
    """The object store has no copy of a recording any more, or a different one."""


class NotNow(Exception):
    """A copy can't be fetched now; a retry may succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A show's files. here: segments by number, on this disk or in the store, in order of time.

    stored: key and SHA-256 of those that are only in the store. elsewhere: where other files are
    that were not deleted: "on" a machine, "into" a folder. audio: what was recorded beside the
    pictures, in order.
    """

    folder: Path
    here: dict[int, Segment]
    stored: dict[int, tuple[str, str | None]]
    listed: tuple[Segment, ...]
    elsewhere: str | None
    audio: tuple[AudioFile, ...] = ()

    def has_all_audio(self, segment: Segment) -> bool:
        """Return whether the audio of a segment is complete."""
        if self.audio and self.audio[-1].piece > segment.path.stem:
            return True
        return time.time() - _modified_ns(segment.path) / 1e9 > AUDIO_WAIT_S


class Playback:
    """Finds recordings below a folder, and their copies; remembers what it has read of a show."""

    def __init__(self, recordings_dir: Path, stored: "Stored | None" = None) -> None:
        """Look at nothing yet. stored: None: there is no object store."""
        self.directory = recordings_dir.resolve()
        self._stored = stored
        self._known: OrderedDict[int, tuple[object, Recording]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def has_store(self) -> bool:
        """Whether there is an object store."""
        return self._stored is not None

    def mark(self, show: ShowRow) -> tuple[int, ...]:
        """Return values that change whenever a file of the show is added or deleted."""
        folder = self._folder(show)
        return tuple(_modified_ns(each) for each in (folder, folder / JOURNAL, folder / AUDIO))

    def of(self, show: ShowRow, state: object, segments: Callable[[], Sequence[Any]]) -> Recording:
        """Return a show's recording.

        state: of the show's rows. segments: reads its rows of `show_segments`; called if they
        have changed.
        """
        mark = (*self.mark(show), state)
        with self._lock:
            known = self._known.get(show.broadcast_id)
            if known is not None and known[0] == mark:
                self._known.move_to_end(show.broadcast_id)
                return known[1]
        found = self._read(show, segments())
        with self._lock:
            self._known[show.broadcast_id] = (mark, found)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def bring(self, recording: Recording, segments: Sequence[Segment]) -> None:
        """Fetch the files of these segments that are not on this disk. Raises CopyGone, NotNow."""
        for segment in segments:
            copy = recording.stored.get(segment.sequence)
            if copy is not None and self._stored is not None:
                for each in around(recording.audio, segment.path.stem):
                    if each.path.parent.parent == segment.path.parent:
                        self._stored.bring_audio(each.path)
                self._stored.bring(segment.path, *copy)

    def _folder(self, show: ShowRow) -> Path:
        return folder_of(self.directory, show.channel, show.started_at, show.broadcast_id)

    def _read(self, show: ShowRow, rows: Sequence[Any]) -> Recording:
        folder = self._folder(show)
        here = _on_disk(folder, show, rows)
        stored: dict[int, tuple[str, str | None]] = {}
        for row in rows:
            if self._stored is None or row.sequence in here or not row.object_key:
                continue
            path = self._stored.path(row.object_key)
            if path is not None and PIECE.fullmatch(path.name):
                here[row.sequence] = segment_of(row, show.channel, path)
                stored[row.sequence] = (row.object_key, row.sha256)
        audio = audio_in(folder)
        if self._stored is not None and stored:
            folders = {here[number].path.parent for number in stored}
            audio += [each for below in folders for each in self._stored.audio_in(below)]
        elsewhere = None
        if not here:
            named = (row for row in rows if row.path)
            elsewhere = next(
                (
                    f"on {row.machine}" if row.machine else f"into {os.path.dirname(row.path)}"
                    for row in named
                ),
                None,
            )
        return Recording(
            folder=folder,
            here=here,
            stored=stored,
            listed=tuple(sorted(here.values(), key=lambda segment: segment.start)),
            elsewhere=elsewhere,
            audio=tuple(sorted(audio, key=lambda each: (each.piece, each.offset))),
        )


def parts(recording: Recording) -> list[tuple[Segment, ...]]:
    """Return the segments in parts of one format each, MPEG-TS or fMP4, in order.

    A browser's player can't switch between formats: each part has its own playlist.
    """
    return [
        tuple(each)
        for _, each in groupby(recording.listed, key=lambda segment: segment.path.suffix)
    ]


def playlist(recording: Recording, part: int | None) -> str | None:
    """Return the playlist of a part, with an end; None where there is no such part.

    part: None: the newest segments of the last one, to be reloaded while it grows.
    """
    found = parts(recording)
    if not found or not -1 < (part or 0) < len(found):
        return None
    whole = found[-1] if part is None else found[part]
    first = max(0, len(whole) - LIVE_SEGMENTS) if part is None else 0
    cuts = sum(
        not segment.continuous or before.end != segment.start
        for before, segment in pairwise(whole[: first + 1])
    )
    listed = whole[first:]
    text = playlist_head(
        listed, sequence=listed[0].sequence, discontinuities=cuts, ended=part is not None
    )
    before: Segment | None = None
    for segment in listed:
        name = f"{segment.sequence}{segment.path.suffix}"
        init = None
        made = segment.sequence in recording.stored or recording.audio
        if made and segment.path.suffix == ".mp4":
            # The length of its head is known once the file is read: it is split when requested.
            init, name = f"{segment.sequence}.init.mp4", f"{segment.sequence}.media.mp4"
        text += playlist_entry(segment, before, name=name, init=init)
        before = segment
    return text + ("" if part is None else END)


def part_of_file(path: Path, part: str) -> bytes:
    """Return a file of fMP4 up to its media (".init"), or from there on. Raises OSError."""
    content, length = path.read_bytes(), init_bytes_of(path)
    return content[:length] if part == ".init" else content[length:]


def spans(segments: Sequence[Segment]) -> list[list[int]]:
    """Return the time ranges that segments cover, in ms since 1970, in order."""
    found: list[list[int]] = []
    for segment in segments:
        begin, end = _ms(segment.start), _ms(segment.end)
        if found and begin - found[-1][1] < 100:
            found[-1][1] = max(end, found[-1][1])
        else:
            found.append([begin, end])
    return found


def holding(recording: Recording, at: datetime) -> Segment | None:
    """Return the segment that contains a moment."""
    return next((each for each in recording.listed if each.start <= at < each.end), None)


def _on_disk(folder: Path, show: ShowRow, rows: Sequence[Any]) -> dict[int, Segment]:
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries if PIECE.fullmatch(entry.name)}
    except OSError:
        names = set()
    here: dict[int, Segment] = {}
    for event in read_events(folder):
        if isinstance(event, Segment) and event.path.name in names:
            here[event.sequence] = event
    for row in rows:
        name = os.path.basename(row.path or "")
        if row.sequence not in here and name in names:
            here[row.sequence] = segment_of(row, show.channel, folder / name)
    return here


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
