"""The recordings on this machine's disk: names, sizes and ages, read once."""

import heapq
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from db.reading.recordings import RecordedBroadcast
from flows.capture.processes import is_claimed
from flows.capture.recorded import audio, playback_playlists
from flows.capture.recorded.runs import PIECE
from flows.recordings.finding import WAITING, broadcast_of, folder_of

_GONE: Final = ".gone"
_KNOWN_NAMES: Final = re.compile(
    r"\d{4,}-\d{8}T\d{6}Z\.(m3u8|json|log)(\.tmp)?|events\.jsonl|position\.json(\.tmp)?|ffmpeg\.pid"
    r"|\d{4,}-\d{8}T\d{6}Z-\d{6,}\.tmp"
)
"""Other files of a broadcast's folder."""


@dataclass(kw_only=True, slots=True)
class Folder:
    """A broadcast's folder: its recorded files as name to (modified, bytes).

    gone: names of files that were set aside to be deleted. audio_of: audio that was recorded beside
    them, by their stems; its bytes count as theirs. Where audio reaches into the next file, it is
    that one's once its own is deleted. modified_ns: of the folder, and of that of the
    audio, when they were read.
    """

    path: Path
    broadcast: int
    n_bytes: int = 0
    files: dict[str, tuple[float, int]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    audio_of: dict[str, list[audio.AudioFile]] = field(default_factory=dict)
    modified_ns: tuple[int, int] = (-1, -1)
    _pictures: dict[str, tuple[float, int]] = field(default_factory=dict)
    _audio: list[audio.AudioFile] = field(default_factory=list)
    _audio_sizes: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """Read what has changed. Links are ignored."""
        modified_ns = self._modified_now()
        if modified_ns == self.modified_ns:
            return
        self.modified_ns = modified_ns
        before, found, self.gone = self._pictures, {}, set()
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(_GONE) and PIECE.fullmatch(name.removesuffix(_GONE)):
                    self.gone.add(name.removesuffix(_GONE))
                elif PIECE.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    # A file has its name when it is finished: it does not change any more.
                    known = before.get(name)
                    if known is None:
                        status = entry.stat(follow_symlinks=False)
                        known = status.st_mtime, status.st_size
                    found[name] = known
        self._pictures = found
        self._read_audio(sorted(_stem_of(name) for name in {*found, *self.gone}))
        self.files = {
            name: (modified, size + self._audio_bytes_of(name))
            for name, (modified, size) in sorted(found.items())
        }
        self.n_bytes = sum(size for _, size in self.files.values())

    def _read_audio(self, pieces: Sequence[str]) -> None:
        """Read the audio that was recorded beside the pictures, which have these stems."""
        before, self._audio_sizes = self._audio_sizes, {}
        self._audio, self.audio_of = audio.audio_in(self.path), {}
        for each in self._audio:
            self.audio_of.setdefault(audio.owner_of(each, pieces), []).append(each)
            name = each.path.name
            with suppress(FileNotFoundError):
                self._audio_sizes[name] = before.get(name) or each.path.stat().st_size

    def _audio_bytes_of(self, name: str) -> int:
        own = self.audio_of.get(_stem_of(name), ())
        return sum(self._audio_sizes.get(each.path.name, 0) for each in own)

    def _modified_now(self) -> tuple[int, int]:
        return self.path.stat().st_mtime_ns, _modified_ns(self.path / audio.FOLDER)

    @property
    def has_all_audio(self) -> bool:
        """Return whether it knows all audio, and none comes any more."""
        return not audio.may_come(self.path) and self._modified_now() == self.modified_ns

    @property
    def has_audio(self) -> bool:
        """Return whether audio is recorded separately from the pictures."""
        return self.modified_ns[1] > 0

    @property
    def oldest(self) -> float:
        """When the oldest file was finished; infinite where there is none."""
        return next(iter(self.files.values()), (float("inf"), 0))[0]

    def in_order(self) -> Iterator[tuple[float, Path, str]]:
        """Yield when each file was finished, the folder and its name, oldest first."""
        for name in list(self.files):
            yield self.files[name][0], self.path, name

    def is_of(self, broadcast: RecordedBroadcast) -> bool:
        """Return whether it is this broadcast's: another database counts from 1 too."""
        directory = self.path.parent.parent
        return folder_of(directory, broadcast.slug, broadcast.started_at, broadcast.id) == self.path

    def is_recorded_to(self) -> bool:
        """Return whether a running process records there."""
        return is_claimed(self.path / "ffmpeg.pid")

    def newest_playlist(self) -> Path | None:
        """Return the playlist that the newest run writes; None before it has."""
        return max(self.path.glob("*.m3u8"), default=None)

    def set_aside(self, name: str) -> None:
        """Rename a file that is to be deleted, so that nothing else finds it."""
        (self.path / name).rename(self.path / f"{name}{_GONE}")
        self.gone.add(name)
        self.n_bytes -= self.files.pop(name)[1]

    def delete(self, name: str) -> None:
        """Delete a file that was set aside."""
        if own := self.audio_of.pop(_stem_of(name), []):
            left = [_stem_of(each) for each in self.files]
            for each in own:
                heir = audio.heir_of(each, self._audio, left)
                if heir is not None:
                    self.audio_of.setdefault(heir, []).append(each)
                    continue
                each.path.unlink(missing_ok=True)
                self._audio.remove(each)
        (self.path / f"{name}{_GONE}").unlink(missing_ok=True)
        self.gone.discard(name)

    def remove(self) -> bool:
        """Delete the folder, in which no recorded file is left; return whether it was deleted.

        It is kept if it has unknown files, or writes that are queued or set aside.
        """
        with os.scandir(self.path) as entries:
            names = {entry.name for entry in entries if not _KNOWN_NAMES.fullmatch(entry.name)}
        known = {playback_playlists.FOLDER, WAITING, audio.FOLDER}
        if names - known or any(self.path.glob(f"{WAITING}/*")):
            return False
        shutil.rmtree(self.path)
        return True


class Inventory:
    """The folders below `directory`/CHANNEL, by path."""

    def __init__(self, directory: Path) -> None:
        """Read nothing yet."""
        self._directory = directory
        self.folders: dict[Path, Folder] = {}

    def look(self) -> None:
        """Read what has changed since the last time."""
        there: dict[Path, Folder] = {}
        for channel in _folders_in(self._directory):
            for path in _folders_in(channel):
                broadcast = broadcast_of(path)
                if broadcast is not None:
                    folder = self.folders.get(path) or Folder(path=path, broadcast=broadcast)
                    folder.look()
                    there[path] = folder
        self.folders = there

    @property
    def n_bytes(self) -> int:
        """How much the recorded files take."""
        return sum(folder.n_bytes for folder in self.folders.values())

    @property
    def n_files(self) -> int:
        """How many recorded files there are."""
        return sum(len(folder.files) for folder in self.folders.values())


def by_show(folders: Sequence[Folder], *, within: int | None) -> Iterator[tuple[float, Path, str]]:
    """Yield the oldest file of the show that takes most bytes, repeatedly.

    within: bytes of all shows together; what a show has within its even share of them, it keeps, so
    that no show pushes out another's recordings.
    """
    of_show: dict[Path, list[Folder]] = defaultdict(list)
    for folder in folders:
        of_show[folder.path.parent].append(folder)
    files = {show: heapq.merge(*(each.in_order() for each in own)) for show, own in of_show.items()}
    share = 0 if within is None else within // max(1, len(of_show))
    largest = [(-sum(each.n_bytes for each in own), show) for show, own in of_show.items()]
    sizes = {folder.path: folder.files for folder in folders}
    heapq.heapify(largest)
    while largest:
        used, show = heapq.heappop(largest)
        if -used <= share:
            return
        if (found := next(files[show], None)) is not None:
            _, path, name = found
            heapq.heappush(largest, (used + sizes[path][name][1], show))
            yield found


def _stem_of(name: str) -> str:
    return name.partition(".")[0]


def _modified_ns(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _folders_in(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [directory / name for name in sorted(found)]
