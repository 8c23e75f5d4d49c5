"""A clip cut into the media segments that the channel plays."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ffmpeg

from flows.capture.processes import find_ffmpeg
from flows.demo.errors import DemoError

MAX_CLIP_S: Final = 180.0
"""Most seconds of a clip that are cut: encoding an hour would take too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A media segment that the channel plays."""

    path: Path
    duration_us: int


def cut(
    clip: Path,
    directory: Path,
    *,
    segment_s: float = 2.0,
    max_s: float = MAX_CLIP_S,
    ffmpeg_path: str | os.PathLike[str] | None = None,
) -> list[Piece]:
    """Encode a clip into MPEG-TS pieces that each begin with a keyframe.

    Any clip works, as it is encoded anew, with keyframes where the cuts are. Sound is kept.
    Raises DemoError if the file is missing or no video.
    """
    if not clip.is_file():
        raise DemoError(f"{clip}: no such file")
    source = ffmpeg.input(f"file:{clip.resolve()}", t=max_s, protocol_whitelist="file")
    playlist = directory / "pieces.m3u8"
    output = ffmpeg.output(
        source["V:0"],
        source["a:0?"],
        str(playlist),
        vf="scale='trunc(min(1280,iw)/2)*2':-2,format=yuv420p",
        vcodec="libx264",
        preset="veryfast",
        force_key_frames=f"expr:gte(t,n_forced*{segment_s})",
        sc_threshold=0,
        g=100000,
        acodec="aac",
        format="hls",
        hls_time=segment_s,
        hls_list_size=0,
        hls_segment_filename=str(directory / "piece-%05d.ts"),
    ).global_args("-nostdin", "-loglevel", "error")
    done = subprocess.run(
        output.compile(cmd=find_ffmpeg(ffmpeg_path), overwrite_output=True),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0 or not playlist.is_file():
        error = done.stderr.decode(errors="replace").strip() or "ffmpeg gave no reason"
        # Its first line has the cause; "[in#0 @ 0x55...] " before it is noise.
        why = re.sub(r"^(\[[^\]]*\] )+", "", error.splitlines()[0])
        raise DemoError(f"{clip} is not a video: {why}")
    return read_pieces(directory)


def read_pieces(directory: Path) -> list[Piece]:
    """Return the media segments that the one playlist in `directory` lists, in order."""
    playlists = sorted(directory.glob("*.m3u8"))
    if len(playlists) != 1:
        raise DemoError(f"{directory} must hold one .m3u8 playlist, not {len(playlists)}")
    text = playlists[0].read_text(encoding="utf-8")
    pieces = [
        Piece(path=directory / name.strip(), duration_us=round(float(seconds) * 1e6))
        for seconds, name in re.findall(r"#EXTINF:([\d.]+),[^\n]*\n([^#\n]+)", text)
    ]
    if not pieces:
        raise DemoError(f"{playlists[0]} lists no segments")
    return pieces
