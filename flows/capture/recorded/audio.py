"""Audio that a source has apart from its pictures, recorded beside them in a folder `audio`.

A file is a segment of the source's as it came. Its name says of which recorded file of pictures it
is, how long after that one's first picture it begins, and how long it is, in ticks of 90 kHz:
`0001-20261130T200000Z-000012+1920x180000.ts`. So nothing else has to be kept of it, and it goes
where that file goes.
"""

import os
import re
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = "audio"

_TICKS_PER_S: Final = 90_000
"""As `media` has it, which the page does not load."""

END_S: Final = 4.0
"""Longest time after the end of a run that its last audio is waited for."""

_MARGIN_S: Final = 1.0
_REACH_TICKS: Final = _TICKS_PER_S // 10
"""Audio that reaches less far into pictures is not kept for them."""

NAME: Final = re.compile(
    r"(?P<piece>\d{4,}-\d{8}T\d{6}Z-\d{6,})(?P<offset>[+-]\d{1,12})x(?P<length>\d{1,12})"
    r"(?P<suffix>\.(ts|mp4|aac|ac3|mp3))"
)

FORMATS: Final = {
    ".ts": "mpegts",
    ".mp4": "mp4",
    ".aac": "aac",
    ".ac3": "ac3",
    ".mp3": "mp3",
}
"""The demuxer that reads a file, by its suffix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFile:
    """A recorded segment of audio. piece: the stem of the file of pictures that it belongs to."""

    path: Path
    piece: str
    offset: int
    length: int

    @property
    def offset_s(self) -> float:
        """How long after its pictures' first it begins."""
        return self.offset / _TICKS_PER_S

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.length / _TICKS_PER_S

    @property
    def format(self) -> str:
        """The demuxer that reads it."""
        return FORMATS[self.path.suffix]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Where in time a segment of audio lies, in ticks of 90 kHz; `suffix` says its format."""

    first: int
    length: int
    suffix: str


def name_of(piece: str, *, offset: int, measured: Measured) -> str:
    """Return the name of a segment of audio."""
    return f"{piece}{offset:+d}x{measured.length}{measured.suffix}"


def audio_of(path: Path) -> AudioFile | None:
    """Return what a file is by its name; None if it is no audio."""
    found = NAME.fullmatch(path.name)
    if found is None:
        return None
    return AudioFile(
        path=path,
        piece=found["piece"],
        offset=int(found["offset"]),
        length=int(found["length"]),
    )


def audio_in(directory: Path) -> list[AudioFile]:
    """Return the audio of a broadcast's directory, in order; empty where there is none."""
    try:
        with os.scandir(directory / FOLDER) as entries:
            paths = [directory / FOLDER / entry.name for entry in entries]
    except OSError:
        return []
    return in_order(paths)


def in_order(paths: Iterable[Path]) -> list[AudioFile]:
    """Return those files that are audio by their names, in order."""
    found = [audio for path in paths if (audio := audio_of(path)) is not None]
    return sorted(found, key=lambda each: (each.piece, each.offset))


def may_come(directory: Path) -> bool:
    """Return whether more audio may come into a broadcast's directory.

    That is while something is recorded there, END_S longer, and while audio is being fetched.
    """
    with suppress(OSError):
        ended_s = time.time() - directory.stat().st_mtime  # the end of a run deletes a file there
        if (directory / "ffmpeg.pid").exists() or ended_s < END_S + _MARGIN_S:
            return True
        with os.scandir(directory / FOLDER) as entries:
            return any(entry.name.endswith(".tmp") for entry in entries)
    return False


def bytes_in(directory: Path) -> int:
    """Return how many bytes of audio a broadcast's directory holds."""
    n_bytes = 0
    with suppress(OSError), os.scandir(directory / FOLDER) as entries:
        for entry in entries:
            with suppress(OSError):
                n_bytes += entry.stat(follow_symlinks=False).st_size
    return n_bytes


def around(audio: Sequence[AudioFile], piece: str) -> Sequence[AudioFile]:
    """Return what may be heard with a file of pictures: its own audio, the one before, the next.

    audio: in order.
    """
    begin = bisect_left(audio, piece, key=lambda each: each.piece)
    end = bisect_right(audio, piece, lo=begin, key=lambda each: each.piece)
    return audio[max(0, begin - 1) : end + 1]


def owner_of(audio: AudioFile, pieces: Sequence[str]) -> str:
    """Return the file of pictures with which audio goes: its own, or where that is gone the next.

    pieces: the stems of those that are there, in order.
    """
    at = bisect_left(pieces, audio.piece)
    return pieces[min(at, len(pieces) - 1)] if pieces else audio.piece


def heir_of(audio: AudioFile, listed: Sequence[AudioFile], pieces: Sequence[str]) -> str | None:
    """Return the file of pictures that audio reaches into where its own is gone; None if none.

    listed: all audio of the broadcast, in order. pieces: the stems of the files of pictures that
    are left, in order. The end of a file of pictures is not in its name, so the audio after it
    tells: where the next pictures' own begins with them, they need no other.
    """
    at = bisect_right(pieces, audio.piece)
    if at == len(pieces) or pieces[at].rpartition("-")[0] != audio.piece.rpartition("-")[0]:
        return None
    after = bisect_right(
        listed, (audio.piece, audio.offset), key=lambda each: (each.piece, each.offset)
    )
    if after < len(listed):
        following = listed[after]
        begins_within = following.piece == pieces[at] and following.offset > _REACH_TICKS
        if following.piece <= pieces[at] and not begins_within:
            return None
    return pieces[at]


def by_piece(audio: Iterable[AudioFile]) -> dict[str, list[AudioFile]]:
    """Return audio by the stems of their files of pictures."""
    of_piece: dict[str, list[AudioFile]] = defaultdict(list)
    for each in audio:
        of_piece[each.piece].append(each)
    return dict(of_piece)
