"""Detection in the frames between two looks, in windows around the expected faces.

A window of a fixed size is cut around each expected face, downscaled by 2, 3 ... for large faces,
and all windows of a segment are processed in one batch, because each call of the network costs
milliseconds.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emotion.detection import boxes
from emotion.detection.detect import COARSE_PX, MAX_CANDIDATES, Detector, no_faces
from emotion.types import Bool, Faces, Float32, Float64, Frames, Int64

WINDOW_PX: Final = 128
"""Side of a window in the network's input, in pixels."""

LARGE_WINDOW_PX: Final = 192
"""The same with few faces, for boxes closer to those of the whole picture."""

_FEW: Final = 12  # expected boxes in a segment up to which windows are large
_MANY: Final = 60  # expected boxes in a frame above which it is searched whole
_AROUND: Final = 1.4  # minimum side of a window, in longer sides of the expected face
_WITHIN: Final = 0.2  # margin around a face in the window of another, in sides of the face
_EDGE_PX: Final = 3  # a box closer to a window's border, in the network's pixels, is cut by it
_BATCH: Final = 32
_MAX_WINDOW_SHARE: Final = 0.6  # of a frame's pixels in windows, above which it is searched whole
_MAX_INT16_TIMES: Final = 11  # 11 * 11 * 255 < 32768
_STRIDE_PX: Final = boxes.STRIDES_PX[1]  # of the anchors for faces in windows of full resolution


class Windows(NamedTuple):
    """Windows, each field (W,): the picture, the first pixel, and the downscaling factor.

    is_large: the expected faces are so large in the network's input that the finest level of
    its pyramid is not needed.
    """

    frame: Int64
    left: Int64
    top: Int64
    times: Int64
    is_large: Bool

    def of(self, rows: Int64) -> "Windows":
        """Return the windows of these rows."""
        return Windows(
            self.frame[rows],
            self.left[rows],
            self.top[rows],
            self.times[rows],
            self.is_large[rows],
        )


def windows_around(frame: Int64, expected: Float64, window_px: int) -> Windows:
    """Return the windows around expected boxes (M, 4), in the frames' pixels.

    A window of full resolution is aligned to the anchors of the whole picture. A face well
    inside the window of another one of similar size gets no window.
    """
    side = (expected[:, 2:] - expected[:, :2]).max(axis=1, initial=1)
    times = np.ceil(_AROUND * side / window_px).clip(1).astype(np.int64)
    reach = times * window_px
    grid = np.where(times == 1, _STRIDE_PX, times)[:, None]
    centre = (expected[:, :2] + expected[:, 2:]) / 2
    corner = np.rint((centre - reach[:, None] / 2) / grid).astype(np.int64) * grid
    low, high = expected[:, :2] - _WITHIN * side[:, None], expected[:, 2:] + _WITHIN * side[:, None]
    is_large = side / times >= COARSE_PX
    rows = np.column_stack((frame, times, is_large, corner, reach, low, high)).tolist()
    kept: list[int] = []
    windows: dict[tuple[float, ...], list[tuple[float, float, float]]] = {}
    for i, (at, reduced, large, left, top, length, x0, y0, x1, y1) in enumerate(rows):
        others = windows.setdefault((at, reduced, large), [])
        if not any(
            (x, y) == (left, top) or (x <= x0 and y <= y0 and x1 <= x + n and y1 <= y + n)
            for x, y, n in others
        ):
            others.append((left, top, length))
            kept.append(i)
    return Windows(frame[kept], corner[kept, 0], corner[kept, 1], times[kept], is_large[kept])


def pays(frames: Frames, expected: Float32) -> bool:
    """Return whether windows around these boxes (M, 4) are cheaper than the whole frame.

    expected: in source pixels.
    """
    if len(expected) > _MANY:
        return False
    _, height, width, _ = frames.images.shape
    where = (expected * np.tile(_scale(frames), 2)).astype(np.float64)
    at = windows_around(np.zeros(len(expected), dtype=np.int64), where, WINDOW_PX)
    return bool(len(at.frame) * WINDOW_PX**2 < _MAX_WINDOW_SHARE * height * width)


@torch.inference_mode()
def detect_near(
    detector: Detector, frames: Frames, pictures: list[Tensor], frame: Int64, expected: Float32
) -> Faces:
    """Return the faces around expected boxes (M, 4), in source pixels.

    frames: with the pictures' size and their source's. frame: (M,), index into `pictures`.
    """
    if len(frame) == 0:
        return no_faces()
    _, height, width, _ = frames.images.shape
    scale = _scale(frames)
    window_px = LARGE_WINDOW_PX if len(frame) <= _FEW else WINDOW_PX
    where = (expected * np.tile(scale, 2)).astype(np.float64)
    at = windows_around(frame, where, window_px)
    found = []
    for finest in (False, True):
        rows = np.flatnonzero(at.is_large != finest)
        for i in range(0, len(rows), _BATCH):
            windows = at.of(rows[i : i + _BATCH])
            found.append(_found(detector, pictures, windows, window_px, finest=finest))
    of, scores, corners, landmarks = (torch.cat(column) for column in zip(*found, strict=True))
    kept = boxes.suppress(corners, scores, max_iou=detector.max_iou, frame=of, most=MAX_CANDIDATES)
    inside = corners[kept].numpy().astype(np.float64)
    np.clip(inside, 0, (width, height) * 2, out=inside)
    there = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)
    kept = kept[torch.from_numpy(there)]
    return Faces(
        frame=of[kept].numpy(),
        boxes=(inside[there] / np.tile(scale, 2)).astype(np.float32),
        scores=scores[kept].numpy(),
        landmarks=(landmarks[kept].numpy() / scale).astype(np.float32),
    )


def _scale(frames: Frames) -> Float64:
    """Return the frames' pixels for one of the source, x and y."""
    _, height, width, _ = frames.images.shape
    return np.array((width / frames.source_width_px, height / frames.source_height_px))


def _found(
    detector: Detector, pictures: list[Tensor], at: Windows, window_px: int, *, finest: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return frame, score, box and landmarks of what is found, in the frames' pixels."""
    height, width, _ = pictures[0].shape
    places = zip(*(column.tolist() for column in at[:4]), strict=True)
    mean = detector.mean
    seen = torch.stack([_cut(mean, pictures[f], x, y, t, window_px) for f, x, y, t in places])
    window, scores, corners, landmarks = detector.candidates(seen, finest=finest)
    times = torch.from_numpy(at.times)[window].float()
    origin = torch.from_numpy(np.stack((at.left, at.top), axis=1))[window]
    end = origin + window_px * torch.from_numpy(at.times)[window][:, None]
    # Only edges of the window that are not edges of the picture count.
    low = (corners[:, :2] < _EDGE_PX) & (origin > 0)
    high = (corners[:, 2:] > window_px - _EDGE_PX) & (end < torch.tensor((width, height)))
    whole = ~(low | high).any(dim=1)
    return (
        torch.from_numpy(at.frame)[window][whole],
        scores[whole],
        (corners * times[:, None] + origin.float().repeat(1, 2))[whole],
        (landmarks * times[:, None, None] + origin.float()[:, None])[whole],
    )


def _cut(mean: Tensor, picture: Tensor, left: int, top: int, times: int, window_px: int) -> Tensor:
    """Return float32 (S, S, 3) of a window, minus the mean; 0 outside, as around a whole frame."""
    height, width, _ = picture.shape
    reach = window_px * times
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + reach), min(height, top + reach)
    part = picture[y0:y1, x0:x1]
    if part.shape[:2] == (reach, reach):
        return _reduced(part, times) - mean
    padding = (0, 0, x0 - left, left + reach - x1, y0 - top, top + reach - y1)
    inside = functional.pad(part.new_ones((*part.shape[:2], 1)), padding)
    return _reduced(functional.pad(part, padding), times) - _reduced(inside, times) * mean


def _reduced(pixels: Tensor, times: int) -> Tensor:
    """Return float32 (H / times, W / times, C), the mean of each square of uint8 (H, W, C)."""
    if times == 1:
        return pixels.float()
    # Integer sums, rows then columns: a quarter of the time of torch's means.
    rows = pixels[::times].to(torch.int16 if times <= _MAX_INT16_TIMES else torch.int32)
    for i in range(1, times):
        rows += pixels[i::times]
    columns = rows[:, ::times].clone()
    for i in range(1, times):
        columns += rows[:, i::times]
    return columns.float().div_(times * times)
