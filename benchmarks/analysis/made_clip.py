"""Generates a clip with faces of known sizes at known places: 1280 x 720, 30 fps, H.264.

The portrait is the public-domain picture of Grace Hopper that ships with matplotlib. Eight faces of
34 to 220 pixels sway over a textured, slowly panning wall, so that decoding costs about as much
as for a broadcast of its bit rate: x264's medium preset with B-frames, a keyframe every 2 s.
Deterministic.
"""

import subprocess
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from flows.capture.processes import find_ffmpeg

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
FPS: Final = 30
SEGMENT_S: Final = 2
FACE_HEIGHTS_PX: Final = (34, 42, 52, 66, 84, 110, 150, 220)
"""Height of each face's box, of about 220 pixels in the portrait."""

Picture = NDArray[np.uint8]
_CENTRES: Final = (
    *((90, 140), (250, 110), (420, 150), (90, 420)),
    *((270, 400), (480, 430), (700, 250), (1040, 360)),
)


def make_clip(path: Path, *, duration_s: int = 20, faces: int = len(FACE_HEIGHTS_PX)) -> Path:
    """Write the clip with the n largest faces; return `path`."""
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{WIDTH_PX}x{HEIGHT_PX}", "-r", str(FPS), "-i", "pipe:"]
    command += ["-c:v", "libx264", "-preset", "medium", "-b:v", "3M", "-maxrate", "4M"]
    command += ["-bufsize", "6M", "-g", str(FPS * SEGMENT_S), "-keyint_min", str(FPS * SEGMENT_S)]
    command += ["-sc_threshold", "0", "-pix_fmt", "yuv420p", "-threads", "2", str(path)]
    background = wall()
    cards = [card(height / 220) for height in FACE_HEIGHTS_PX][-faces:]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for index in range(duration_s * FPS):
            process.stdin.write(_frame(index / FPS, background, cards).tobytes())
        process.stdin.close()
    if process.returncode:
        raise RuntimeError(f"ffmpeg could not write {path}")
    return path


def cut(path: Path, directory: Path) -> list[Path]:
    """Cut a clip into MPEG-TS segments of `SEGMENT_S`, like a live channel."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-i", str(path), "-c", "copy"]
    command += ["-f", "segment", "-segment_time", f"{SEGMENT_S - 0.1}", str(directory / "%03d.ts")]
    subprocess.run(command, check=True)
    return sorted(directory.glob("*.ts"))


def wall() -> Picture:
    """Return a wall with texture at several scales, wider than the picture."""
    random = np.random.default_rng(7)
    total = np.zeros((HEIGHT_PX, WIDTH_PX + 400, 3))
    for cell, strength in ((4, 6), (16, 14), (64, 22), (240, 30)):
        shape = (HEIGHT_PX // cell + 2, (WIDTH_PX + 400) // cell + 2, 3)
        coarse = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        size = (shape[1] * cell, shape[0] * cell)
        fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
        total += (fine[: total.shape[0], : total.shape[1]] / 127.5 - 1) * strength
    return (total + np.array((110, 120, 135))).clip(0, 255).astype(np.uint8)


def card(scale: float) -> tuple[Picture, NDArray[np.float32]]:
    """Return head and shoulders, RGB, and their opacity, 0 to 1."""
    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as file:
        portrait = file.convert("RGB").crop((110, 40, 430, 480))
    mask = Image.new("L", portrait.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((10, 10, 309, 429), 60, fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(8))
    size = (round(portrait.width * scale), round(portrait.height * scale))
    alpha = np.asarray(mask.resize(size), dtype=np.float32)[:, :, None] / 255
    return np.asarray(portrait.resize(size, Image.Resampling.LANCZOS)), alpha


def _frame(t_s: float, wall: Picture, cards: list[tuple[Picture, NDArray[np.float32]]]) -> Picture:
    pan = round(200 + 190 * np.sin(t_s / 5))
    picture = wall[:, pan : pan + WIDTH_PX].copy()
    for number, (head, alpha) in enumerate(cards, start=len(_CENTRES) - len(cards)):
        x, y = _CENTRES[number]
        height, width, _ = head.shape
        reach = 18 + height / 12
        left = round(x - width / 2 + reach * np.sin(t_s * 0.9 + number))
        top = round(y - height / 2 + reach / 2 * np.cos(t_s * 0.7 + 2 * number))
        top, left = max(0, top), max(0, left)
        place = picture[top : top + height, left : left + width]
        here = alpha[: place.shape[0], : place.shape[1]]
        mixed = place * (1 - here) + head[: place.shape[0], : place.shape[1]] * here
        place[:] = mixed.astype(np.uint8)
    return picture
