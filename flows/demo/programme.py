"""The demo's programme: a portrait that moves, leaves, returns and is doubled; generated.

The portrait is the public-domain picture of Grace Hopper that ships with matplotlib as sample
data. Nothing is random: the same versions of the libraries give the same file.
"""

import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import ffmpeg
import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from flows.capture.processes import find_ffmpeg
from flows.demo.errors import DemoError

WIDTH_PX: Final = 640
HEIGHT_PX: Final = 360
FPS: Final = 25

Picture = NDArray[np.uint8]

_CENTRE: Final = (265.0, 235.0)
"""The middle of the face in the portrait (512 x 600 pixels)."""

_MOODS: Final = 9
"""How many steps the mouth takes from its corners' lowest to their highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A shot: `draw(seconds since its start)` gives the picture; hard cuts lie between shots.

    faces: how many are in full view at the seconds since the programme's start that
    `faces_at` names, for tests of a detector.
    """

    name: str
    start_s: float
    end_s: float
    draw: Callable[[float], Image.Image]
    faces: int
    faces_at: tuple[float, ...]


def _moved_down(picture: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a picture (H, W, C) whose pixels are those of its column at `y` (H, W), linearly."""
    y = np.clip(y, 0, len(picture) - 1)
    above = np.minimum(y.astype(np.intp), len(picture) - 2)
    share = (y - above)[..., None]
    column = np.arange(picture.shape[1])
    moved: NDArray[np.float64] = (1 - share) * picture[above, column]
    moved += share * picture[above + 1, column]
    return moved


@cache
def _portrait(mood: int) -> Image.Image:
    """Return the portrait, RGBA with soft edges, the corners of its mouth moved by `mood`."""
    sample = get_sample_data("grace_hopper.jpg", asfileobj=False)
    with Image.open(str(sample)) as file:
        picture = np.asarray(file.convert("RGB"), dtype=np.float64)
    height, width, _ = picture.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    lift_px = 16.0 * (2.0 * mood / (_MOODS - 1) - 1.0)
    dy = np.zeros_like(x)
    for corner_x, corner_y in ((228.0, 277.0), (307.0, 274.0)):
        dy += lift_px * np.exp(-(((x - corner_x) / 22) ** 2) - ((y - corner_y) / 16) ** 2)
    bent = _moved_down(picture, y + dy)
    card = Image.fromarray(bent.round().astype(np.uint8), "RGB")
    mask = Image.new("L", card.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((26, 0, width - 27, height + 60), 70, fill=255)
    card.putalpha(mask.filter(ImageFilter.GaussianBlur(9)))
    return card


@cache
def _stage(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    """Return an empty stage: a gradient wall and a floor."""
    share = np.linspace(0.0, 1.0, HEIGHT_PX)[:, None, None]
    wall = np.array(top) * (1 - share) + np.array(bottom) * share
    picture = np.broadcast_to(wall, (HEIGHT_PX, WIDTH_PX, 3)).copy()
    picture[int(HEIGHT_PX * 0.82) :] *= 0.55
    return Image.fromarray(picture.round().astype(np.uint8), "RGB")


def _smile(t_s: float, period_s: float) -> int:
    """Return a mood that swings from one extreme to the other and back in a period."""
    swing = 0.5 - 0.5 * math.cos(2 * math.pi * t_s / period_s)
    return round(swing * (_MOODS - 1))


def _place(
    stage: Image.Image,
    *,
    x: float,
    y: float,
    scale: float,
    mood: int,
    roll_deg: float = 0.0,
    mirrored: bool = False,
    light: float = 1.0,
) -> None:
    """Draw the portrait on the stage with the middle of the face at x, y (pixels)."""
    card = _portrait(mood)
    cos, sin = math.cos(math.radians(roll_deg)) / scale, math.sin(math.radians(roll_deg)) / scale
    flip = -1.0 if mirrored else 1.0
    # Image.transform needs the point of the card for each point of the stage.
    a, b = flip * cos, flip * sin
    d, e = -sin, cos
    placed = card.transform(
        stage.size,
        Image.Transform.AFFINE,
        (a, b, _CENTRE[0] - a * x - b * y, d, e, _CENTRE[1] - d * x - e * y),
        Image.Resampling.BILINEAR,
    )
    face = placed.convert("RGB")
    if light != 1.0:
        face = face.point([min(255, round(v * light)) for v in range(256)] * 3)
    stage.paste(face, (0, 0), placed.getchannel("A"))


def _arrives(t_s: float) -> Image.Image:
    stage = _stage((36, 58, 92), (150, 170, 196)).copy()
    x = 170 + 150 * math.sin(t_s / 7 * math.pi / 2)
    _place(stage, x=x, y=150 + 8 * math.sin(t_s * 2), scale=0.55, mood=_smile(t_s, 6))
    return stage


def _leaves_and_returns(t_s: float) -> Image.Image:
    stage = _stage((36, 58, 92), (150, 170, 196)).copy()
    away = min(1.0, max(0.0, t_s / 2.0)) - min(1.0, max(0.0, (t_s - 3.5) / 2.0))
    if away < 1.0:
        x = 320 + 500 * away**2
        _place(stage, x=x, y=150 + 8 * math.sin(t_s * 2 + 2), scale=0.55, mood=_smile(t_s, 4))
    return stage


def _close_up(t_s: float) -> Image.Image:
    stage = _stage((120, 60, 40), (226, 180, 120)).copy()
    _place(stage, x=330 - 6 * t_s, y=170, scale=0.8 + 0.05 * t_s, mood=_smile(t_s, 5))
    return stage


def _two(t_s: float) -> Image.Image:
    stage = _stage((30, 80, 60), (160, 200, 170)).copy()
    sway = 22 * math.sin(t_s * 1.1)
    _place(stage, x=165 + sway, y=150, scale=0.5, mood=_smile(t_s, 7))
    _place(stage, x=475 - sway, y=160, scale=0.46, mood=_smile(t_s + 3.5, 7), mirrored=True)
    return stage


def _nobody(t_s: float) -> Image.Image:
    stage = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (24, 24, 30))
    draw = ImageDraw.Draw(stage)
    colours = ("#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0")
    for i, colour in enumerate(colours):
        draw.rectangle((20 + 86 * i, 24, 20 + 86 * i + 83, 210), fill=colour)
    draw.rectangle((20, 306, 20 + round(600 * t_s / 6), 314), fill="#e0e0e0")
    font = ImageFont.load_default(30)
    draw.text((WIDTH_PX / 2, 258), "Nobody on stage", fill="#e0e0e0", anchor="mm", font=font)
    return stage


def _walks_past(t_s: float) -> Image.Image:
    stage = _stage((60, 50, 90), (180, 160, 200)).copy()
    _place(
        stage,
        x=130 + 75 * t_s,
        y=190 - 10 * t_s,
        scale=0.36,
        mood=_smile(t_s, 5),
        light=1.0 - 0.35 * math.sin(t_s / 5 * math.pi),
    )
    return stage


def _nods(t_s: float) -> Image.Image:
    stage = _stage((20, 70, 90), (120, 190, 200)).copy()
    roll_deg = 12 * math.sin(t_s * 1.6)
    _place(stage, x=320, y=165, scale=0.65, mood=_smile(t_s, 3), roll_deg=roll_deg)
    return stage


SCENES: Final = (
    Scene(name="arrives", start_s=0, end_s=7, draw=_arrives, faces=1, faces_at=(0.4, 2, 4, 6.6)),
    # The face is gone from 8.7 s to 10.9 s, and the shot continues.
    Scene(
        name="leaves and returns",
        start_s=7,
        end_s=15,
        draw=_leaves_and_returns,
        faces=1,
        faces_at=(7.4, 12.6, 14.8),
    ),
    Scene(name="close-up", start_s=15, end_s=20, draw=_close_up, faces=1, faces_at=(15.2, 17, 19)),
    Scene(name="two", start_s=20, end_s=27, draw=_two, faces=2, faces_at=(20.2, 22, 24, 26.6)),
    Scene(name="nobody", start_s=27, end_s=33, draw=_nobody, faces=0, faces_at=(27.2, 30, 32.8)),
    Scene(name="walks past", start_s=33, end_s=38, draw=_walks_past, faces=1, faces_at=(34, 37)),
    Scene(name="nods", start_s=38, end_s=44, draw=_nods, faces=1, faces_at=(38.4, 40, 43)),
)
"""The programme, shot by shot."""

DURATION_S: Final = SCENES[-1].end_s


def draw_frame(index: int) -> Picture:
    """Return the programme's frame number `index`: uint8 (360, 640, 3), RGB."""
    t_s = index / FPS
    scene = next(scene for scene in SCENES if t_s < scene.end_s)
    return np.asarray(scene.draw(t_s - scene.start_s))


def _frames(duration_s: float) -> Iterator[bytes]:
    for index in range(round(duration_s * FPS)):
        yield draw_frame(index).tobytes()


def make_programme(
    path: Path,
    *,
    duration_s: float = DURATION_S,
    ffmpeg_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Write the programme, or its first `duration_s`, as an MP4 with a quiet tone; return `path`.

    640 x 360, 25 frames a second, H.264 and AAC. The file appears whole or not at all. Raises
    DemoError when ffmpeg can't write it.
    """
    pictures = ffmpeg.input(
        "pipe:",
        format="rawvideo",
        pixel_format="rgb24",
        video_size=(WIDTH_PX, HEIGHT_PX),
        framerate=FPS,
    )
    tone = ffmpeg.input(f"sine=frequency=220:sample_rate=44100:duration={duration_s}", f="lavfi")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.mp4")
    output = ffmpeg.output(
        pictures.video,
        tone.audio,
        str(unfinished),
        vcodec="libx264",
        preset="veryfast",
        crf=23,
        pix_fmt="yuv420p",
        # The number of threads shapes the stream: fixed, every machine writes the same file.
        threads=2,
        acodec="aac",
        audio_bitrate="48k",
        af="volume=-30dB",
        fflags="+bitexact",
        flags="+bitexact",
        movflags="+faststart",
    ).global_args("-loglevel", "error")
    arguments = output.compile(cmd=find_ffmpeg(ffmpeg_path), overwrite_output=True)
    # Errors go to a file, not a pipe: a full pipe would stop ffmpeg while it gets pictures.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        assert process.stdin is not None
        try:
            for frame in _frames(duration_s):
                process.stdin.write(frame)
            process.stdin.close()
            broken: OSError | None = None
        except BrokenPipeError as e:
            broken = e
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0 or broken is not None:
            unfinished.unlink(missing_ok=True)
            errors.seek(0)
            why = errors.read().decode(errors="replace").strip() or "ffmpeg gave no reason"
            raise DemoError(f"{path} can't be made: {why.splitlines()[-1]}") from broken
    return unfinished.replace(path)
