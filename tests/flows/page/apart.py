"""A recorded show with separate audio files."""

import subprocess
from pathlib import Path

import av

from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.audio import FOLDER
from flows.recordings.segment_audio import seconds_of
from tests.flows.page.conftest import PIECE_S
from tests.flows.page.growing import Growing

N = 4
TICKS = 90_000


def cut_apart(folder: Path, kind: str) -> tuple[list[Path], list[Path]]:
    """Return N video files and their audio files, each playable alone."""
    folder.mkdir()
    made = ["-t", str(N * PIECE_S), "-f", "lavfi", "-i"]
    hls = ["-f", "hls", "-hls_time", str(PIECE_S), "-hls_list_size", "0"]
    hls += ["-hls_segment_type", "fmp4" if kind == "mp4" else "mpegts"]
    command = [find_ffmpeg(), "-v", "error", *made, "testsrc2=size=64x48:rate=10"]
    command += [*made, "sine=frequency=300:sample_rate=48000"]
    for name, coded in (
        ("picture", ["-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-g", "10"]),
        ("audio", ["-map", "1:a", "-c:a", "aac"]),
    ):
        init = ["-hls_fmp4_init_filename", f"{name}-init.mp4"]
        command += [*coded, *hls, *init, str(folder / f"{name}.m3u8")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    suffix = "m4s" if kind == "mp4" else "ts"
    found = []
    for name in ("picture", "audio"):
        head = (folder / f"{name}-init.mp4").read_bytes() if kind == "mp4" else b""
        files = [folder / f"{name}-{n}.{kind}" for n in range(N)]
        for n, file in enumerate(files):
            file.write_bytes(head + (folder / f"{name}{n}.{suffix}").read_bytes())
        found.append(files)
    return found[0], found[1]


def first_and_length(path: Path) -> tuple[float, float]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux() if p.pts is not None]
        begin = min(seconds_of(p) for p in packets)
        return begin, max(seconds_of(p) for p in packets) - begin


def add_audio(show: Growing, audio: list[Path]) -> None:
    """Add audio files to the first segments of a show."""
    (show.folder / FOLDER).mkdir()
    for picture, file in zip(sorted(show.folder.glob("0*")), audio, strict=False):
        begin, _ = first_and_length(picture)
        at, length = first_and_length(file)
        name = f"{picture.stem}{round((at - begin) * TICKS):+d}x{round(length * TICKS)}"
        (show.folder / FOLDER / f"{name}{file.suffix}").write_bytes(file.read_bytes())
