"""One row a frame, with the column names of OpenFace, py-feat and inaFaceAnalyzer.

`frame`, `face_id`, `timestamp`, `confidence` and `success` are OpenFace's; `FaceRect...`,
`FaceScore` and the emotions py-feat's. A frame without a face has a row with success 0.
"""

from collections.abc import Sequence
from typing import Any, Final

from db.tables.shows import EMOTIONS
from flows.report.file_formats import Column

COLUMNS: Final = (
    Column(name="broadcast_id", kind="int32", unit="", meaning="One show has one number"),
    Column(name="frame", kind="int32", unit="", meaning="Analysed frames of the show, from 1"),
    Column(name="face_id", kind="int32", unit="", meaning="The track; 0 without a face"),
    Column(name="timestamp", kind="float64", unit="s", meaning="Since the beginning of the show"),
    Column(
        name="confidence", kind="float32", unit="0 to 1", meaning="That it is a face; 0 without"
    ),
    Column(
        name="success", kind="int16", unit="", meaning="1 for a face, 0 for a frame without one"
    ),
    Column(name="ts", kind="timestamp", unit="UTC", meaning="When, by the source's clock"),
    Column(name="offset_s", kind="float64", unit="s", meaning="The same as timestamp"),
    Column(name="fps", kind="float32", unit="Hz", meaning="Frames analysed a second"),
    Column(name="frame_width", kind="int32", unit="px", meaning="Of the source's picture"),
    Column(name="frame_height", kind="int32", unit="px", meaning="Of the source's picture"),
    Column(name="FaceRectX", kind="float32", unit="px", meaning="Left edge of the face"),
    Column(name="FaceRectY", kind="float32", unit="px", meaning="Top edge of the face"),
    Column(name="FaceRectWidth", kind="float32", unit="px", meaning="Width of the face"),
    Column(name="FaceRectHeight", kind="float32", unit="px", meaning="Height of the face"),
    Column(name="FaceScore", kind="float32", unit="0 to 1", meaning="The same as confidence"),
    Column(
        name="roll_deg",
        kind="float32",
        unit="degrees",
        meaning="Tilt of the line through the eyes, clockwise in the picture",
    ),
    *(
        Column(name=name, kind="float32", unit="0 to 1", meaning="Smoothed probability")
        for name in EMOTIONS
    ),
)


def row_of(show: int, offset_s: float, row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row of `db.reading.frames.COLUMNS` as one of `COLUMNS`."""
    frame, ts, fps, width_px, height_px, track, score, x0, y0, x1, y1, roll, *emotions = row
    seen = track is not None
    box = (x0, y0, x1 - x0, y1 - y0) if seen else (None,) * 4
    return (
        *(show, frame, track or 0, offset_s, score if seen else 0.0, int(seen)),
        *(ts, offset_s, fps, width_px, height_px),
        *(*box, score, roll, *emotions),
    )
