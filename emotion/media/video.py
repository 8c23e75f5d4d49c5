"""Reads video files as frames, decoded in process to the requested size."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np

from emotion.media.decode import Reader, Skip, cell_of
from emotion.media.pictures import US, Converter, Picture
from emotion.media.streams import Truncated, VideoError, open_video
from emotion.types import Frames, UInt8

__all__ = [
    "Skip",
    "Truncated",
    "VideoError",
    "VideoInfo",
    "probe",
    "read_frames",
    "read_windows",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """Properties of a video file, as it declares them.

    width_px, height_px: in the file's pixels, which need not be square, after rotation. fps:
    average, 0 where unknown. creation_time: aware UTC, None where the container does not say.
    """

    duration_s: float
    width_px: int
    height_px: int
    fps: float
    creation_time: datetime | None


def probe(path: Path) -> VideoInfo:
    """Return the declared properties of a file; one frame is decoded, for the rotation.

    Raises VideoError as `read_frames` does, except for truncation.
    """
    with open_video(path) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = (container.duration or 0) / av.time_base
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        creation_time = _creation_time(container.metadata.get("creation_time"))
        for picture in Reader(path, container, stream).pictures(1.0):
            width, height = picture.size_px
            return VideoInfo(
                duration_s=duration_s,
                width_px=width,
                height_px=height,
                fps=fps,
                creation_time=creation_time,
            )
        raise VideoError(f"{path}: no picture in it can be decoded")


def read_frames(path: Path, *, fps: float, longest_side_px: int, skip: Skip = "needless") -> Frames:
    """Return the frames of one short file, all at once.

    Samples the first frame at or after each k / fps seconds from the first displayed
    video packet, so the same bytes give the same frames; a slower video gives all.
    Pictures are rotated as declared, have square pixels, and are not larger than
    `longest_side_px` and the file's. skip: frames not to decode, which may give fewer frames.

    Raises VideoError, one line: the file is missing, empty, not a video, without a video stream,
    without a decodable picture, or truncated.
    """
    with open_video(path) as (container, stream):
        reader = Reader(path, container, stream)
        collected = Collected(reader, fps, longest_side_px)
        for picture in reader.pictures(fps, skip):
            collected.add(picture)
        return collected.frames(0)


def read_windows(
    path: Path, *, fps: float, window_s: float = 2.0, longest_side_px: int
) -> Iterator[tuple[float, float, Frames]]:
    """Yield (offset_s, duration_s, frames) of each `window_s` of a long file, in bounded memory.

    Windows start at multiples of `window_s` from the first video packet; `frames.offset_s`
    counts from the start of the window. The last one ends with the video; windows without
    video are omitted. Sampling and errors as in `read_frames`; Truncated is raised after
    all decodable frames.
    """
    window_us = round(window_s * US)
    if window_us <= 0:
        raise ValueError(f"window_s must be positive, not {window_s}")
    with open_video(path) as (container, stream):
        reader = Reader(path, container, stream)
        collected = Collected(reader, fps, longest_side_px)
        window = end_us = 0
        truncated: Truncated | None = None
        pictures = reader.pictures(fps)
        while True:
            try:
                picture = next(pictures, None)
            except Truncated as e:
                truncated = e
                break
            if picture is None:
                break
            at = picture.offset_us // window_us
            if at > window:
                if end_us > window * window_us:
                    start_us = window * window_us
                    yield start_us / US, window_us / US, collected.frames(start_us)
                window = at
            end_us = picture.end_us
            collected.add(picture)
        if truncated is None or collected.began:
            start_us = window * window_us
            duration_us = min(max(end_us, reader.end_us) - start_us, window_us)
            yield start_us / US, duration_us / US, collected.frames(start_us)
    if truncated is not None:
        raise truncated


class Collected:
    """Samples frames, converting each one directly."""

    def __init__(self, reader: Reader, fps: float, longest_side_px: int) -> None:
        if not fps > 0 or longest_side_px < 1:
            raise ValueError(
                f"fps ({fps}) and longest_side_px ({longest_side_px}) must be positive"
            )
        self._reader = reader
        self._fps = fps
        self._longest_side_px = longest_side_px
        self._converter = Converter()
        self._images: list[UInt8] = []
        self._offsets_us: list[int] = []
        self._cell = -1
        self._size_px = (0, 0)
        self._shape = (0, 0)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def began(self) -> bool:
        return self._size_px != (0, 0)

    @property
    def pixels(self) -> int:
        return len(self) * self._shape[0] * self._shape[1]

    def add(self, picture: Picture) -> None:
        """Keep a picture if it is the first of its sampling interval; all get the first's size."""
        if self._size_px == (0, 0):
            self._size_px = picture.size_px
            self._shape = picture.shape_within(self._longest_side_px, self._reader.pixel_aspect)
        cell = cell_of(picture.offset_us, self._fps)
        if cell > self._cell:
            self._cell = cell
            self._images.append(picture.image(self._shape, self._converter))
            self._offsets_us.append(picture.offset_us)

    def nothing(self) -> Frames:
        """Return no frames, of the declared size."""
        width, height = self._reader.size_px
        return Frames(
            images=np.zeros((0, height, width, 3), dtype=np.uint8),
            offset_s=np.zeros(0),
            source_width_px=width,
            source_height_px=height,
        )

    def frames(self, start_us: int) -> Frames:
        """Return and clear the kept frames, with offsets from `start_us`.

        Raises VideoError if there never was a picture.
        """
        if self._size_px == (0, 0):
            raise VideoError(f"{self._reader.path}: no picture in it can be decoded")
        images, offsets_us = self._images, self._offsets_us
        self._images, self._offsets_us = [], []
        return Frames(
            images=np.stack(images) if images else np.zeros((0, *self._shape, 3), dtype=np.uint8),
            offset_s=(np.array(offsets_us, dtype=np.int64) - start_us) / US,
            source_width_px=self._size_px[0],
            source_height_px=self._size_px[1],
        )


def _creation_time(text: str | None) -> datetime | None:
    """Return the container's time; None for the zero of an unset clock (1904 or 1970)."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time if time.year > 1970 else None
