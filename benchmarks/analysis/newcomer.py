"""How soon a face that comes into the picture is found.

Three people stand before a wall. Another face, of one of several sizes, is there from one frame of
a segment on. Pictures go to the analysis as they are, not through a video.
"""

from typing import Final

import numpy as np
from PIL import Image

from benchmarks.analysis.made_clip import HEIGHT_PX, SEGMENT_S, WIDTH_PX, Picture, card, wall
from benchmarks.analysis.turns import DEFAULT_PX, Bench
from emotion.pipeline import Analyser
from emotion.types import Detections, Frames

FPS: Final = 5.0
SIZES_PX: Final = (40, 66, 110, 220)
"""Heights of the newcomer's box, about."""

_STANDING: Final = ((250, 420, 84), (640, 420, 110), (1080, 400, 150))
_COMES_AT: Final = (440, 170)
_N: Final = round(FPS * SEGMENT_S)


def measure(bench: Bench) -> None:
    """Say after how many seconds newcomers are found, for each frame that one may come in."""
    analyser = Analyser(device="cpu")
    background = wall()[:, :WIDTH_PX]
    found_after_s: list[float] = []
    for size_px in SIZES_PX:
        without = [_picture(background, i, None) for i in range(2 * _N)]
        there = [_picture(background, i, size_px) for i in range(2 * _N)]
        second = _faces_there(analyser.analyse(_frames(there[_N:])))
        for first in range(1, _N):
            told = analyser.analyse(_frames([*without[:first], *there[first:_N]]))
            seen = [*_faces_there(told), *second]
            after = next((i for i in range(first, 2 * _N) if seen[i]), None)
            found_after_s.append(np.inf if after is None else (after - first) / FPS)
    n = len(found_after_s)
    # It may have come just after the frame before the first that shows it.
    most_s = max(found_after_s) + 1 / FPS
    bench.say("newcomer", f"a new face is found, at most, of {n} after", most_s, "s", "<= 0.4")
    share = 100 * np.mean(np.array(found_after_s) == 0)
    bench.say("newcomer", "new faces found in the first frame that shows them", share, "%")


def _picture(background: Picture, frame: int, newcomer_px: int | None) -> Picture:
    picture = Image.fromarray(background)
    people = [*_STANDING, *([] if newcomer_px is None else [(*_COMES_AT, newcomer_px)])]
    for i, (x, y, height) in enumerate(people):
        head, alpha = card(height / 220)
        sway = round(height / 30 * np.sin(0.8 * frame + i))
        mask = Image.fromarray((alpha[:, :, 0] * 255).astype(np.uint8))
        place = (x + sway - head.shape[1] // 2, y - head.shape[0] // 2)
        picture.paste(Image.fromarray(head), place, mask)
    size = (DEFAULT_PX, round(DEFAULT_PX * HEIGHT_PX / WIDTH_PX))
    return np.asarray(picture.resize(size, Image.Resampling.BOX))


def _frames(pictures: list[Picture]) -> Frames:
    return Frames(
        images=np.stack(pictures),
        offset_s=np.arange(len(pictures)) / FPS,
        source_width_px=WIDTH_PX,
        source_height_px=HEIGHT_PX,
    )


def _faces_there(told: Detections) -> list[bool]:
    """Tell of each frame whether a face was found where the newcomer is."""
    centres = (told.faces.boxes[:, :2] + told.faces.boxes[:, 2:]) / 2
    near = np.abs(centres - np.array(_COMES_AT)).max(axis=1) < 120
    return [bool(near[told.faces.frame == i].any()) for i in range(len(told.offset_s))]
