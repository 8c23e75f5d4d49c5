"""Conversion of decoded frames to RGB: upright, with square pixels, in the requested size."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from emotion.types import UInt8

US: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A decoded frame; offset_us and end_us count from the first video packet."""

    frame: VideoFrame
    offset_us: int
    end_us: int

    @property
    def _quarter_turns(self) -> int:
        """Return the number of counter-clockwise rotations by 90 degrees."""
        return round(self.frame.rotation / 90) % 4

    @property
    def size_px(self) -> tuple[int, int]:
        """Return width and height, upright, in the pixels of the file."""
        width, height = self.frame.width, self.frame.height
        return (height, width) if self._quarter_turns % 2 else (width, height)

    def shape_within(self, longest_side_px: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
        """Return height and width with square pixels, upright, never larger than the file's."""
        aspect = float(pixel_aspect or 1)
        width = self.frame.width * min(1.0, aspect)
        height = self.frame.height / max(1.0, aspect)
        if self._quarter_turns % 2:
            width, height = height, width
        scale = min(1.0, longest_side_px / max(width, height))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def image(self, shape: tuple[int, int], converter: "Converter") -> UInt8:
        """Return uint8 (H, W, 3) RGB of this height and width, upright."""
        turns = self._quarter_turns
        height, width = shape[::-1] if turns % 2 else shape
        return np.rot90(converter.rgb(self.frame, width, height), turns)


class Converter:
    """Converts frames to RGB of any size; of an interlaced frame, one field."""

    def __init__(self) -> None:
        """Start without any size."""
        self._scaler, self._reformatter = VideoReformatter(), VideoReformatter()
        self._field: tuple[object, Graph] | None = None

    def rgb(self, frame: VideoFrame, width: int, height: int) -> UInt8:
        """Return uint8 (height, width, 3)."""
        if frame.interlaced_frame:
            frame = self._top_field(frame)
        if frame.format.name == "yuv420p" and (frame.width, frame.height) != (width, height):
            # Scaling before the conversion to RGB takes a third of the time.
            frame = self._scaler.reformat(frame, width, height)
        rgb: UInt8 = self._reformatter.reformat(frame, width, height, "rgb24").to_ndarray()  # type: ignore[assignment]
        return rgb

    def _top_field(self, frame: VideoFrame) -> VideoFrame:
        """Return every other line: the two fields are 1/50 s apart, which combs moving edges."""
        key = (frame.width, frame.height, frame.format.name)
        if self._field is None or self._field[0] != key:
            graph = Graph()
            source = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(1, US),
            )
            graph.link_nodes(source, graph.add("field", "type=top"), graph.add("buffersink"))
            graph.configure()
            self._field = (key, graph)
        graph = self._field[1]
        graph.push(frame)
        field = graph.pull()
        assert isinstance(field, VideoFrame)
        return field
