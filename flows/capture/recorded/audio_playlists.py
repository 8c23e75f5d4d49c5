"""Playlists of the audio that was recorded beside pictures, and what puts the two together.

Below `play`, in a folder `with-audio`: for each playlist of pictures one of its audio, and a master
playlist, which a player opens. They are written anew whenever the one of the pictures changes.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from flows.capture.recorded.audio import FOLDER as AUDIO
from flows.capture.recorded.audio import AudioFile, audio_in, by_piece
from flows.capture.recorded.playlist_text import (
    DISCONTINUITY,
    END,
    file_lines,
    file_names,
    file_start,
    goes_on,
    target_of,
)
from flows.capture.segment import Gap, Segment
from flows.capture.state import write_whole

FOLDER: Final = "with-audio"
_OF_AUDIO: Final = "-audio"
_USUAL_S: Final = 2.0


def master_text(pictures: str, audio: str) -> str:
    """Return a master playlist of pictures and audio, by their addresses."""
    return (
        "#EXTM3U\n#EXT-X-VERSION:7\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES,'
        f'URI="{audio}"\n'
        f'#EXT-X-STREAM-INF:BANDWIDTH=5000000,AUDIO="audio"\n{pictures}\n'
    )


def audio_text(
    segments: Sequence[Segment],
    of_piece: Mapping[str, Sequence[AudioFile]],
    *,
    name: Callable[[AudioFile], str],
    sequence: int = 0,
    discontinuities: int = 0,
    ended: bool,
) -> str:
    """Return the playlist of the audio of these segments of pictures, with their discontinuities.

    name: an audio file's address. Raises OSError.
    """
    lines: list[str] = []
    longest_s = _USUAL_S
    before: Segment | None = None
    for segment in segments:
        if not goes_on(segment, before):
            lines.append(DISCONTINUITY.rstrip())
        for audio in of_piece.get(segment.path.stem, ()):
            start = file_start(segment) + timedelta(seconds=audio.offset_s)
            lines += file_lines(audio.path, start=start, length_s=audio.length_s, name=name(audio))
            longest_s = max(longest_s, audio.length_s)
        before = segment
    head = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{target_of(longest_s)}"]
    head += [f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    head += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"]
    return "\n".join([*head, *lines, ""]) + (END if ended else "")


def write(directory: Path, playlist: Path, segments: Sequence[Segment]) -> Path:
    """Write what puts audio to a playlist of pictures, and return the one to open.

    That is the playlist itself where no audio was recorded beside its pictures. Raises OSError.
    """
    of_piece = by_piece(audio_in(directory))
    if not any(segment.path.stem in of_piece for segment in segments):
        return playlist
    folder = playlist.parent / FOLDER
    folder.mkdir(exist_ok=True)
    master = folder / playlist.name
    of_audio = f"{playlist.stem}{_OF_AUDIO}{playlist.suffix}"
    write_whole(master, master_text(f"../{playlist.name}", of_audio), durable=False)
    _write_audio(folder / of_audio, playlist, segments, of_piece)
    return master


def is_in(play: Path) -> bool:
    """Return whether a folder has such playlists."""
    return (play / FOLDER).is_dir()


def refresh(play: Path, events: Iterable[Segment | Gap]) -> None:
    """Follow the playlists of pictures in a folder; raises OSError."""
    folder = play / FOLDER
    if not folder.is_dir():
        return
    of_piece = by_piece(audio_in(play.parent))
    segments = [each for each in events if isinstance(each, Segment)]
    for of_audio in folder.glob(f"*{_OF_AUDIO}.m3u8"):
        name = of_audio.name.replace(f"{_OF_AUDIO}.", ".")
        if (playlist := play / name).is_file():
            _write_audio(of_audio, playlist, segments, of_piece)
        else:
            of_audio.unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)


def _write_audio(
    path: Path,
    playlist: Path,
    segments: Sequence[Segment],
    of_piece: Mapping[str, Sequence[AudioFile]],
) -> None:
    text = playlist.read_text(encoding="utf-8", errors="replace")
    names = set(file_names(text))
    listed = [each for each in segments if each.path.name in names]
    cuts = re.search(r"DISCONTINUITY-SEQUENCE:(\d+)", text)
    heard = [audio.path.name for each in listed for audio in of_piece.get(each.path.stem, ())]
    made = audio_text(
        listed,
        of_piece,
        name=lambda audio: f"../../{AUDIO}/{audio.path.name}",
        sequence=_sequence(path, heard),
        discontinuities=int(cuts[1]) if cuts else 0,
        ended=text.endswith(END),
    )
    write_whole(path, made, durable=False)


def _sequence(path: Path, heard: Sequence[str]) -> int:
    """Return the number of the first audio now: as many more as have left since."""
    if not path.exists():
        return 0
    text = path.read_text(encoding="utf-8", errors="replace")
    before = file_names(text)
    first = re.search(r"MEDIA-SEQUENCE:(\d+)", text)
    number = int(first[1]) if first else 0
    if heard and heard[0] in before:
        return number + before.index(heard[0])
    return number + len(before)
