"""Clips that automations cut: where they are, and how the oldest are deleted.

Files with other names in their folders are never deleted.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.settings import Settings

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_CLIP: Final = re.compile(r"\d{8}T\d{6}Z(-\d+)?\.mp4")
_UNFINISHED: Final = re.compile(r"\.\d{8}T\d{6}Z(-\d+)?\.mp4\.[0-9a-f]{8}\.part")
_SECOND: Final = timedelta(seconds=1)
"""A clip's name is its start, to the second."""

_ABANDONED: Final = timedelta(days=1)
"""Age after which an unfinished clip is deleted: its process has died."""


def path_of(clips_dir: Path, channel: str, begin: datetime) -> Path:
    """Return the file for a channel's clip that begins at a moment (aware)."""
    return clips_dir / channel / f"{begin.astimezone(UTC):{_STAMP}}.mp4"


def clips_between(
    clips_dir: Path, channel: str, spans: Sequence[tuple[datetime, datetime]]
) -> list[Path]:
    """Return the clips of a channel that begin within one of these stretches (aware), in order."""
    folder = clips_dir / channel
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if not _CLIP.fullmatch(path.name):
            continue
        at = datetime.strptime(path.name[:16], _STAMP).replace(tzinfo=UTC)
        if any(begin - _SECOND < at <= end for begin, end in spans):
            found.append(path)
    return found


def roll_clips(settings: Settings, now: datetime) -> tuple[int, int]:
    """Delete the oldest clips until they are within the settings; return how many, and their bytes.

    now: aware. The newest stays until it is too old, whatever its size. Raises OSError.
    """
    cut = 0.0
    if settings.keep_clips_days:
        cut = (now - timedelta(days=settings.keep_clips_days)).timestamp()
    abandoned = (now - _ABANDONED).timestamp()
    clips: list[tuple[float, int, Path]] = []
    for folder in _folders(settings.clips_dir):
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    continue
                status = entry.stat(follow_symlinks=False)
                if _CLIP.fullmatch(entry.name):
                    clips.append((status.st_mtime, status.st_size, Path(entry.path)))
                elif _UNFINISHED.fullmatch(entry.name) and status.st_mtime < abandoned:
                    Path(entry.path).unlink(missing_ok=True)
    clips.sort()
    over = 0
    if settings.keep_clips_gb:
        over = sum(size for _, size, _ in clips) - round(settings.keep_clips_gb * (1 << 30))
    n_files = n_bytes = 0
    for modified, size, path in clips:
        if modified >= cut and (over <= 0 or path == clips[-1][2]):
            break
        path.unlink(missing_ok=True)
        over, n_files, n_bytes = over - size, n_files + 1, n_bytes + size
    for folder in _folders(settings.clips_dir):
        with suppress(OSError):  # not empty
            folder.rmdir()
    return n_files, n_bytes


def _folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
