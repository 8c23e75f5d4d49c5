"""A show for measuring captures: a test card with unique frames."""

import os
import subprocess
from pathlib import Path
from typing import Final

from flows.capture.processes import find_ffmpeg
from flows.demo.errors import DemoError

VARIANTS: Final = ("smaller", "silent")
"""Variants for LiveOrigin's `play`: another resolution, and no sound."""

_SIZES: Final = {"smaller": "128x72"}
_SIZE: Final = "192x108"
_CORNER: Final = "cellauto=size=48x28:rule=30:seed=1:scroll=1:full=1"
"""Size with unique frames; a smaller test card would repeat itself."""


def make_testcard(
    directory: Path,
    *,
    duration_s: float,
    segment_s: float = 2.0,
    fps: int = 24,
    variants: tuple[str, ...] = VARIANTS,
    clip: Path | None = None,
    size: str = _SIZE,
    ffmpeg_path: str | os.PathLike[str] | None = None,
) -> dict[str, Path]:
    """Create a show in MPEG-TS segments of exactly `segment_s`; return its directories.

    The show itself is at "", its variants at their names; fps times segment_s must be whole.
    clip: fills the picture, in a loop, with a unique pattern in one corner.
    size: of the picture.
    Raises DemoError.
    """
    made = {}
    for name in ("", *variants):
        target = directory / (name or "full")
        target.mkdir(parents=True)
        whole = _SIZES.get(name, size)
        command = [find_ffmpeg(ffmpeg_path), "-v", "error", "-nostdin"]
        card = f"testsrc2=size={whole}" if clip is None else _CORNER
        command += ["-f", "lavfi", "-i", f"{card}:rate={fps}"]
        if clip is not None:
            command += ["-stream_loop", "-1", "-i", f"file:{clip.resolve()}"]
        if name != "silent":
            command += ["-f", "lavfi", "-i", "sine=frequency=300", "-c:a", "aac", "-b:a", "32k"]
        if clip is not None:
            below = f"[1:v]fps={fps},scale={whole.replace('x', ':')}[below]"
            command += ["-filter_complex", f"{below};[below][0:v]overlay[v]", "-map", "[v]"]
            command += [] if name == "silent" else ["-map", "2:a"]
        command += ["-t", str(duration_s), "-c:v", "libx264", "-preset", "veryfast"]
        # Keyframes only at the start of segments.
        command += ["-pix_fmt", "yuv420p", "-g", str(round(fps * segment_s)), "-sc_threshold", "0"]
        command += ["-f", "hls", "-hls_time", str(segment_s), "-hls_list_size", "0"]
        command += ["-hls_segment_filename", str(target / "piece-%05d.ts")]
        done = subprocess.run(
            [*command, str(target / "pieces.m3u8")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"no test card: {done.stderr.decode(errors='replace').strip()}")
        made[name] = target
    return made
