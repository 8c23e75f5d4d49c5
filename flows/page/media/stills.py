"""Makes a still from a recording on request, by ffmpeg in a child process; not stored."""

import subprocess
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from flows.capture.processes import find_ffmpeg
from flows.capture.segment import Segment
from flows.errors import UsageError

WIDTH_PX: Final = 320
TIMEOUT_S: Final = 10.0
WAIT_S: Final = 8.0
MAX_BYTES: Final = 1 << 20

_places = threading.BoundedSemaphore(2)
"""Most stills made at once; a page of results requests fifty."""


def still(segment: Segment, at: datetime, *, ffmpeg: Path | None = None) -> bytes:
    """Return a JPEG of the picture at a moment of a segment.

    Raises UsageError where there is none, or too many are being made.
    """
    file_start = segment.start - timedelta(seconds=segment.offset_s)
    skip_s = max(0.0, (at - file_start).total_seconds())
    kind = "mp4" if segment.path.suffix == ".mp4" else "mpegts"
    command = [find_ffmpeg(ffmpeg), "-v", "error", "-nostdin", "-threads", "1"]
    command += ["-protocol_whitelist", "file", "-f", kind, "-i", f"file:{segment.path}"]
    # Skipped after decoding: seeking in a file of two seconds finds its end.
    command += ["-ss", f"{skip_s:.3f}", "-an", "-frames:v", "1"]
    command += [
        "-vf",
        f"scale={WIDTH_PX}:-2",
        "-c:v",
        "mjpeg",
        "-q:v",
        "5",
        "-f",
        "image2pipe",
        "-",
    ]
    if not _places.acquire(timeout=WAIT_S):
        raise UsageError("too many stills are being made: try again")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise UsageError(f"no still within {TIMEOUT_S:.0f} s") from e
    finally:
        _places.release()
    if not done.stdout.startswith(b"\xff\xd8") or len(done.stdout) > MAX_BYTES:
        raise UsageError("there is no picture at this moment of the recording")
    return done.stdout
