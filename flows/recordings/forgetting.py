"""Files of shows that are to be deleted: their recordings, and the clips cut from them."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from filelock import FileLock

from flows.objects.configured import objects_of
from flows.recordings.alert_clips import clips_between
from flows.recordings.finding import folder_of
from flows.settings import Settings

_RETENTION_S: Final = 60.0
"""Most seconds to wait for a running retention pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The files of some shows on this machine: folders of recordings, and clips.

    copies: where their copies in the object store are, if there is one.
    """

    folders: tuple[Path, ...]
    clips: tuple[Path, ...]
    n_bytes: int
    copies: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return it as a line of text."""
        recordings = "1 recording" if len(self.folders) == 1 else f"{len(self.folders)} recordings"
        clips = "1 clip" if len(self.clips) == 1 else f"{len(self.clips)} clips"
        return f"{recordings}, {clips} ({self.n_bytes / 1e6:.1f} MB)"


def files_of(
    settings: Settings, slug: str, shows: Sequence[tuple[int, datetime, datetime]]
) -> Files:
    """Find the files of shows of a channel: number, when it began, when it ended (aware)."""
    folders = [
        folder
        for number, started_at, _ in shows
        if (folder := folder_of(settings.recordings_dir, slug, started_at, number)).is_dir()
    ]
    spans = [(started_at, ended_at) for _, started_at, ended_at in shows]
    clips = clips_between(settings.clips_dir, slug, spans)
    names = [
        folder_of(Path(), slug, started_at, number).as_posix() for number, started_at, _ in shows
    ]
    return Files(
        folders=tuple(folders),
        clips=tuple(clips),
        n_bytes=_size(folders, clips),
        copies=tuple(names) if settings.recordings_store else (),
    )


def delete_files(settings: Settings, slug: str, files: Files) -> None:
    """Delete them, their copies, and folders that become empty.

    Raises OSError, filelock.Timeout, StoreError.
    """
    if (objects := objects_of(settings)) is not None:
        for below in files.copies:
            objects.delete_below(below)
            shutil.rmtree(settings.copies_dir / below, ignore_errors=True)
    if files.folders:
        lock = FileLock(settings.recordings_dir / ".retention.lock", timeout=_RETENTION_S)
        with lock:
            for folder in files.folders:
                shutil.rmtree(folder)
    for clip in files.clips:
        clip.unlink(missing_ok=True)
    for directory in (settings.recordings_dir / slug, settings.clips_dir / slug):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def _size(folders: Iterable[Path], clips: Iterable[Path]) -> int:
    files = [*clips, *(file for folder in folders for file in folder.rglob("*"))]
    return sum(file.lstat().st_size for file in files if file.is_file())
