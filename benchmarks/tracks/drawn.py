"""Renders programmes: one public-domain portrait, in several shades, before textured walls."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.tracks.mot import Frame
from benchmarks.tracks.scenes import HEIGHT_PX, WIDTH_PX, Programme, View, boxes_of
from emotion.detection.detect import Detector
from emotion.types import Frames

Pixels = NDArray[np.uint8]

SIZE_PX: Final = (960, 540)
_SCALE: Final = SIZE_PX[0] / WIDTH_PX
_ROOM: Final = 0.35  # margin drawn around the face, in sizes of its box
_SHADES: Final = (
    (1.0, 1.0, 1.0),
    (0.8, 0.72, 0.66),
    (1.1, 1.0, 0.85),
    (0.55, 0.5, 0.48),
    (0.95, 0.8, 0.8),
    (0.7, 0.75, 0.8),
)


def portrait() -> Pixels:
    """Return matplotlib's portrait, (600, 512, 3) RGB."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB"))


class Cast:
    """The faces, cut out so that `detector`'s box of each is known."""

    def __init__(self, detector: Detector) -> None:
        """Find the face in the portrait."""
        image = portrait()
        height, width, _ = image.shape
        faces = detector.detect(
            Frames(
                images=image[None],
                offset_s=np.zeros(1),
                source_width_px=width,
                source_height_px=height,
            )
        )
        x0, y0, x1, y1 = faces.boxes[0].tolist()
        room = _ROOM * (x1 - x0)
        cut = (round(x0 - room), round(y0 - room), round(x1 + room), round(y1 + room))
        self._cut = Image.fromarray(image).crop(cut)
        self.box = np.array((x0 - cut[0], y0 - cut[1], x1 - cut[0], y1 - cut[1]))
        mask = Image.new("L", self._cut.size)
        ImageDraw.Draw(mask).ellipse((4, 4, self._cut.width - 5, self._cut.height - 5), fill=255)
        self._mask = mask.filter(ImageFilter.GaussianBlur(4))

    def draw(self, view: View, seed: int) -> tuple[Pixels, NDArray[np.float64]]:
        """Return the picture, and the box (N, 4), in it, of each face of the view."""
        picture = _wall(view, seed)
        boxes = boxes_of(view.shown, view.at_s) * _SCALE
        faces = view.shown.faces
        for face, box in reversed(list(zip(faces, boxes, strict=True))):  # the front face last
            if not any(begin <= view.at_s < end for begin, end in face.away):
                self._paste(picture, face.look, box)
        centre = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2 * _SCALE
        width = (view.boxes[:, 2] - view.boxes[:, 0])[:, None] * _SCALE
        size = (self.box[2:] - self.box[:2]) / (self.box[2] - self.box[0])
        return np.asarray(picture), np.hstack(
            (centre - width * size / 2, centre + width * size / 2)
        )

    def _paste(self, picture: Image.Image, look: int, box: NDArray[np.float64]) -> None:
        zoom = (box[2] - box[0]) / (self.box[2] - self.box[0])
        size = (round(self._cut.width * zoom), round(self._cut.height * zoom))
        shade = np.asarray(self._cut) * np.array(_SHADES[look % len(_SHADES)])
        face = Image.fromarray(shade.clip(0, 255).astype(np.uint8)).resize(size)
        mask, anchor = self._mask.resize(size), (self.box[:2] + self.box[2:]) / 2
        if look % 2:
            face = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            anchor = np.array((self._cut.width - anchor[0], anchor[1]))
        corner = (box[:2] + box[2:]) / 2 - anchor * zoom
        picture.paste(face, (round(corner[0]), round(corner[1])), mask)


def _wall(view: View, seed: int) -> Image.Image:
    """Return the background: smooth blotches about the set's colour, moved with the camera."""
    shot = view.shown
    colour = np.random.default_rng((seed, shot.set)).uniform(40, 200, 3)
    spread = np.random.default_rng((seed, shot.set, shot.camera)).normal(0, 40, (6, 24, 3))
    blotches = Image.fromarray((colour + spread).clip(0, 255).astype(np.uint8))
    wide = blotches.resize((2 * SIZE_PX[0], SIZE_PX[1]), Image.Resampling.BICUBIC)
    left = round(shot.turned_px(view.at_s) * _SCALE)
    return wide.crop((left, 0, left + SIZE_PX[0], SIZE_PX[1]))


def drawn(programme: Programme, cast: Cast, fps: float) -> tuple[Frames, list[NDArray[np.float64]]]:
    """Return the frames, and the true boxes of each in source pixels."""
    views = programme.views(fps)
    pictures, boxes = zip(*(cast.draw(view, 1) for view in views), strict=True)
    frames = Frames(
        images=np.stack(pictures),
        offset_s=np.array([view.t_s for view in views]),
        source_width_px=WIDTH_PX,
        source_height_px=HEIGHT_PX,
    )
    return frames, [box / _SCALE for box in boxes]


def compared(
    views: list[View],
    boxes: list[NDArray[np.float64]],
    found: list[NDArray[np.float32]],
    tracks: list[NDArray[np.int64]],
) -> Iterator[Frame]:
    """Yield the frames for `mot.score`: true faces, and detections."""
    for view, truth, said, track in zip(views, boxes, found, tracks, strict=True):
        yield view.identity, track, iou(truth, said.astype(np.float64))


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (A, B), the overlap of boxes (A, 4) and (B, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (a, b)]
    overlap: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1][None, :] - shared)
    return overlap
