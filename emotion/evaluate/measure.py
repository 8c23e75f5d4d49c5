"""Runs the networks on labelled pictures, with the production code path."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from emotion.classify import Classifier
from emotion.detection.detect import Detector, no_faces
from emotion.types import Faces, Float32, Frames, Int64, K, UInt8

log = logging.getLogger(__name__)

_ENLARGE_TO_PX: Final = 224
_SHRINK_TO_PX: Final = {True: 256, False: 640}
"""Longest side of a face crop (True) and of a whole picture (False) above which it is reduced."""

_BORDER: Final = 0.15
_AT_ONCE: Final = 256
_BATCH_PX: Final = 32 * 320 * 320

# Right eye, left eye, nose, corners of the mouth of an upright face, in shares of its picture.
LANDMARKS: Final = np.array(
    [[0.31, 0.41], [0.69, 0.41], [0.5, 0.6], [0.35, 0.76], [0.65, 0.76]], np.float32
)

FOUND, NO_FACE, UNREADABLE = 0, 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureEmotions:
    """The networks' outputs for pictures.

    probs: float32 (N, 8), as `Detections.probs`; rows of 0 without a face.
    state: int64 (N,), FOUND, NO_FACE or UNREADABLE.
    """

    probs: Float32
    state: Int64


def classify_pictures(
    paths: Sequence[Path], classifier: Classifier, detector: Detector | None, *, n_threads: int = 4
) -> PictureEmotions:
    """Return the emotion of the largest face of each picture.

    detector: None if each picture is the crop of a face; then the network sees all of it.
    For the detector, small pictures are enlarged, and all get a border, since data sets are
    cropped tightly.
    """
    probs = np.zeros((len(paths), K), dtype=np.float32)
    state = np.full(len(paths), UNREADABLE, dtype=np.int64)
    margin = classifier.model.crop.margin
    for at, frames, faces in largest_faces(paths, detector, margin=margin, n_threads=n_threads):
        state[at] = NO_FACE
        state[at[faces.frame]] = FOUND
        probs[at[faces.frame]] = classifier.classify(frames, faces)
    return PictureEmotions(probs=probs, state=state)


def largest_faces(
    paths: Sequence[Path], detector: Detector | None, *, margin: float, n_threads: int = 4
) -> Iterator[tuple[Int64, Frames, Faces]]:
    """Yield the readable pictures in groups: their indices, frames and largest faces.

    detector: as in `classify_pictures`. margin: of the crop rule; without a detector, faces are
    placed so that the crop is the whole picture.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(n_threads) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about metadata, which is not used
        for first in range(0, len(paths), _AT_ONCE):
            part = paths[first : first + _AT_ONCE]
            pictures = list(pool.map(lambda path: _picture(path, crops=detector is None), part))
            rows_of: dict[tuple[int, ...], list[int]] = {}
            for i, picture in enumerate(pictures):
                if picture is not None:
                    rows_of.setdefault(picture.shape, []).append(i)
            for shape, rows in rows_of.items():
                step = max(1, _BATCH_PX // (shape[0] * shape[1]))
                for some in _parts(rows, step):
                    images = np.stack([p for p in (pictures[i] for i in some) if p is not None])
                    frames = _frames(images)
                    faces = (
                        _whole(frames, margin)
                        if detector is None
                        else _largest(detector.detect(frames))
                    )
                    yield first + np.array(some), frames, faces
            log.info("%d of %d pictures", first + len(part), len(paths))


def _parts(rows: list[int], step: int) -> Iterator[list[int]]:
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


def _picture(path: Path, *, crops: bool) -> UInt8 | None:
    """Return uint8 (H, W, 3), upright; for the detector square with a border. None: unreadable."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    longest = max(image.size)
    wanted = min(longest, _SHRINK_TO_PX[crops])
    if not crops:
        wanted = max(wanted, _ENLARGE_TO_PX)
    if wanted != longest:
        size = [max(1, round(side * wanted / longest)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    pixels: UInt8 = np.asarray(image)
    if crops:
        return pixels
    height, width, _ = pixels.shape
    side = -int(-wanted * (1 + 2 * _BORDER) // 32) * 32  # few different sizes: large batches
    top, left = (side - height) // 2, (side - width) // 2
    around = ((top, side - height - top), (left, side - width - left), (0, 0))
    return np.pad(pixels, around, mode="edge")


def _frames(images: UInt8) -> Frames:
    n, height, width, _ = images.shape
    return Frames(
        images=images,
        offset_s=np.arange(n, dtype=np.float64),
        source_width_px=width,
        source_height_px=height,
    )


def _largest(faces: Faces) -> Faces:
    """Return the largest face of each frame that has one."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    order = np.lexsort((-sides.prod(axis=1), faces.frame))
    _, first = np.unique(faces.frame[order], return_index=True)
    return faces.rows(order[first]) if len(faces) else no_faces()


def _whole(frames: Frames, margin: float) -> Faces:
    """Return, for each frame, the upright face whose crop is the whole picture."""
    n, height, width, _ = frames.images.shape
    size = np.array((width, height), dtype=np.float32)
    half = size / 2 / (1 + 2 * margin)
    box = np.concatenate((size / 2 - half, size / 2 + half)).astype(np.float32)
    return Faces(
        frame=np.arange(n, dtype=np.int64),
        boxes=np.tile(box, (n, 1)),
        scores=np.ones(n, dtype=np.float32),
        landmarks=np.tile(LANDMARKS * size, (n, 1, 1)),
    )
