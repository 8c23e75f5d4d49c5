"""Kinds of programmes for comparing detection methods: talk, street, sport, crowd, cuts.

Real faces on synthetic paths: heads cut out of a photograph of several people move over a
textured wall; a real clip of one talking face is shown with a fixed and with a shaking
camera. Photograph and clip are not part of the project: `--media` names a folder with
`five-faces.jpg` and `woman-crying-360p.mp4`. Deterministic.
"""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import cos, pi, sin
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.analysis.made_clip import FPS, HEIGHT_PX, SEGMENT_S, WIDTH_PX, cut, wall
from emotion.detection.detect import Detector
from emotion.types import Frames
from flows.capture.processes import find_ffmpeg

Pixels = NDArray[np.uint8]
Draw = Callable[[float], Image.Image]

KINDS: Final = ("talk", "street", "sport", "crowd", "cuts")
LENGTH_S: Final = 12
_SIZE: Final = (WIDTH_PX, HEIGHT_PX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast:
    """heads: RGBA, cut out; each box is the middle third. film: pictures of one talking face."""

    heads: list[Image.Image]
    film: list[Image.Image]
    photograph: Image.Image
    wall: Image.Image


def cast(media: Path, detector: Detector) -> Cast:
    """Return the material of the kinds. Raises OSError if the media are missing."""
    with Image.open(media / "five-faces.jpg") as file:
        photograph = file.convert("RGB")
    pixels = np.asarray(photograph)
    found = detector.detect(
        Frames(
            images=pixels[None],
            offset_s=np.zeros(1),
            source_width_px=photograph.width,
            source_height_px=photograph.height,
        )
    )
    heads = [_head(photograph, box.tolist()) for box in found.boxes]
    film = []
    with av.open(str(media / "woman-crying-360p.mp4")) as container:
        for frame in container.decode(video=0):
            if len(film) == LENGTH_S * 24:
                break
            film.append(frame.to_image())
    return Cast(heads=heads, film=film, photograph=photograph, wall=Image.fromarray(wall()))


def _head(photograph: Image.Image, box: list[float]) -> Image.Image:
    x0, y0, x1, y1 = box
    side = x1 - x0
    head = photograph.crop(
        tuple(map(round, (x0 - side, y0 - 0.8 * side, x1 + side, y1 + side)))  # type: ignore[arg-type]
    )
    mask = Image.new("L", head.size, 0)
    w, h = head.size
    ImageDraw.Draw(mask).rounded_rectangle((w // 5, h // 12, w - w // 5, h), w // 4, fill=255)
    head.putalpha(mask.filter(ImageFilter.GaussianBlur(w / 40)))
    return head


def drawing(kind: str, of: Cast) -> Draw:
    """Return the function that draws a kind's picture at a time in seconds."""
    if kind == "cuts":
        others = [drawing(name, of) for name in ("talk", "street", "crowd", "sport")]
        return lambda t: others[int(t / 1.07) % 4](t)
    return {"talk": _talk, "street": _street, "sport": _sport, "crowd": _crowd}[kind](of)


def _talk(of: Cast) -> Draw:
    return lambda t: of.film[int(t * 24) % len(of.film)].resize(_SIZE, Image.Resampling.BICUBIC)


def _street(of: Cast) -> Draw:
    """People of several sizes walk in both directions, past others who stand."""

    def draw(t: float) -> Image.Image:
        picture = of.wall.crop((200, 0, 200 + WIDTH_PX, HEIGHT_PX))
        for i in range(3):
            _paste(picture, of, i, 220 + 400 * i, 260 + 8 * sin(t + i), 70 + 10 * i)
        for i in range(6):
            speed, begins = (150, 420, 260, 90, 600, 330)[i], (0, 1, 3, 0, 6, 5)[i]
            way = ((t - begins) * speed + 50 * i) % (WIDTH_PX + 500) - 250
            x = way if i % 2 else WIDTH_PX - way
            bob = 6 * sin(2 * pi * 1.8 * t + i)
            _paste(picture, of, i + 3, x, 380 + 40 * (i % 3) + bob, 60 + 25 * (i % 4))
        return picture

    return draw


def _sport(of: Cast) -> Draw:
    """A camera that pans, zooms and shakes over several people, and over a close face."""

    def draw(t: float) -> Image.Image:
        near = int(t / 4) % 2
        source = of.film[int(t * 24) % len(of.film)] if near else of.photograph
        width = source.width * (0.62 + 0.2 * sin(1.3 * t))
        height = width * HEIGHT_PX / WIDTH_PX
        x = (source.width - width) * (0.5 + 0.45 * sin(2.1 * t) + 0.02 * sin(31 * t))
        y = (source.height - height) * (0.4 + 0.3 * cos(1.7 * t) + 0.02 * sin(27 * t))
        return source.resize(_SIZE, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))

    return draw


def _crowd(of: Cast) -> Draw:
    """Twenty people who sway independently."""

    def draw(t: float) -> Image.Image:
        picture = of.wall.crop((100, 0, 100 + WIDTH_PX, HEIGHT_PX))
        for i in range(20):
            row, column = divmod(i, 7)
            x = 110 + 175 * column + 60 * (row % 2) + 22 * sin(0.9 * t + 1.7 * i)
            y = 150 + 215 * row + 12 * cos(1.3 * t + i)
            _paste(picture, of, i, x, y, 46 + 9 * (i % 4) + 14 * row)
        return picture

    return draw


def _paste(picture: Image.Image, of: Cast, number: int, x: float, y: float, face_px: float) -> None:
    """Paste a head with this width of the face; every second one is mirrored."""
    head = of.heads[number % len(of.heads)]
    zoom = 3 * face_px / head.width
    head = head.resize((round(head.width * zoom), round(head.height * zoom)))
    if (number // len(of.heads)) % 2:
        head = head.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.paste(head, (round(x - head.width / 2), round(y - head.height * 0.45)), head)


def clip(kind: str, of: Cast, path: Path, *, length_s: float = LENGTH_S) -> list[Path]:
    """Write a kind's clip, 720p30 with B-frames, and return its segments."""
    write(path.with_suffix(".mp4"), pictures(drawing(kind, of), length_s), FPS)
    return cut(path.with_suffix(".mp4"), path)


def pictures(draw: Draw, length_s: float) -> Iterator[Pixels]:
    """Yield the pictures of a clip."""
    for i in count():
        if i / FPS >= length_s:
            return
        yield np.asarray(draw(i / FPS))


def write(path: Path, images: Iterator[Pixels], fps: float) -> None:
    """Encode pictures (H, W, 3) like a broadcast: x264 at 3 Mbit/s, keyframes every 2 s."""
    first = next(images)
    height, width, _ = first.shape
    gop = str(round(fps * SEGMENT_S))
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "pipe:"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-b:v", "3M", "-g", gop]
    command += ["-keyint_min", gop, "-sc_threshold", "0", "-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(first.tobytes())
        for image in images:
            process.stdin.write(image.tobytes())
        process.stdin.close()
    if process.returncode:
        raise RuntimeError(f"ffmpeg could not write {path}")
