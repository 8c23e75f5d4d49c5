"""Functions that tests of media call in the box."""

import shutil
import tempfile
from pathlib import Path

import bombs

from emotion.media.segment import read_parts
from emotion.media.video import VideoError, read_windows
from flows.capture.recorded.media import measure, read_head
from flows.capture.segment import UnreadableMedia


def _written(url: str, make: str, arguments: dict[str, int]) -> Path:
    path = Path(tempfile.mkdtemp()) / ("x.ts" if make in ("large", "many") else "x.mp4")
    made = getattr(bombs, make)
    if path.suffix == ".ts":
        made(path, **arguments)
    else:
        path.write_bytes(made(**arguments))
    return path


def measured(url: str, make: str, arguments: dict[str, int]) -> str:
    """Measure a segment, like a capture."""
    path = _written(url, make, arguments)
    found = measure(path, fragmented=path.suffix == ".mp4")
    return f"{found.end - found.first} ticks"


def head(url: str, make: str, arguments: dict[str, int]) -> str:
    """Read a segment's first bytes."""
    path = _written(url, make, arguments)
    return str(read_head(path.read_bytes()[:65536], fragmented=path.suffix == ".mp4"))


def analysed(url: str, make: str, arguments: dict[str, int]) -> str:
    """Decode a segment of two seconds, like a watch."""
    path = _written(url, make, arguments)
    parts = read_parts(path, fps=5, longest_side_px=640, part_px=10**7, longest_s=14.0)
    return f"{sum(map(len, parts))} pictures"


def from_file(url: str, make: str, arguments: dict[str, int]) -> str:
    """Decode a file, like `showmood analyze`."""
    path = _written(url, make, arguments)
    windows = read_windows(path, fps=5, longest_side_px=640)
    return f"{sum(len(frames) for *_, frames in windows)} pictures"


def as_it_is(data: str, suffix: str) -> str:
    """Read a segment of these bytes (in hex) with each of these functions."""
    path = Path(tempfile.mkdtemp()) / f"x{suffix}"
    path.write_bytes(bytes.fromhex(data))
    said = "refused"
    for read in (
        lambda: measure(path, fragmented=suffix == ".mp4"),
        lambda: read_head(path.read_bytes(), fragmented=suffix == ".mp4"),
        lambda: [*read_parts(path, fps=5, longest_side_px=640, part_px=10**7, longest_s=14.0)],
        lambda: [*read_windows(path, fps=5, longest_side_px=640)],
    ):
        try:
            read()
        except (UnreadableMedia, VideoError):
            continue
        said = "read"
    shutil.rmtree(path.parent)
    return said
