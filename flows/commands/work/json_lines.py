"""The output of `showmood analyze --json`: the rows as JSON lines, without a database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import numpy as np

from emotion.types import EMOTIONS
from emotion.weights.records import AFFECT
from flows.live.rows.file_analysis import Piece
from flows.report.file_formats import json_line

_POSE: Final = ("roll_deg", "yaw")


def lines_of(
    piece: Piece, *, began: datetime, show: str, model: str, smoothing: str, fps: float
) -> Iterator[str]:
    """Yield one JSON object a face, by time, then track: the columns of `report --json`."""
    rows = piece.observations
    start = np.datetime64(began.astimezone(UTC).replace(tzinfo=None), "us")
    for i in range(len(rows)):
        at = rows.ts[i].item().replace(tzinfo=UTC)
        sides = zip(("x0", "y0", "x1", "y1"), rows.boxes[i], strict=True)
        pose = rows.pose[i] if rows.pose is not None else (np.nan, np.nan)
        affect = rows.affect[i] if rows.affect is not None else (np.nan,) * len(AFFECT)
        yield json_line(
            {
                "channel": piece.segment.channel,
                "show": show,
                "ts": at,
                "track": int(rows.track[i]),
                "emotion": EMOTIONS[int(np.nanargmax(rows.smoothed[i]))],
                "score": _number(rows.scores[i]),
                **{side: _number(value) for side, value in sides},
                **_by_name("", rows.smoothed[i]),
                "broadcast_id": None,
                **{name: _number(value) for name, value in zip(AFFECT, affect, strict=True)},
                "track_id": None,
                **_by_name("raw_", rows.probs[i]),
                **{name: _number(value) for name, value in zip(_POSE, pose, strict=True)},
                "model": model,
                "smoothing": smoothing,
                "fps": fps,
                "frame_width_px": piece.segment.width_px,
                "frame_height_px": piece.segment.height_px,
                "start_is_estimated": piece.segment.start_is_estimated,
                "is_ad": False,
                "offset_s": round(float((rows.ts[i] - start) / np.timedelta64(1, "s")), 6),
            }
        )


def _number(value: np.float32) -> float | None:
    """Return the shortest decimal number for a float32, as Postgres prints it."""
    return None if np.isnan(value) else float(str(value))


def _by_name(prefix: str, probs: np.ndarray) -> dict[str, float | None]:
    return {f"{prefix}{name}": _number(p) for name, p in zip(EMOTIONS, probs, strict=True)}
