"""Encodes observations in the binary format of COPY, with numpy, without a loop over rows.

Format: PostgreSQL manual, COPY, "Binary Format". A field is its length (int32) and its bytes in
network order; a null is only the length -1. So rows with the same nulls have the same layout;
usually there is one, because nulls are the classes that the network lacks.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from db.tables.shows import AFFECT, EMOTIONS, POSE, TRACKS_PER_BROADCAST
from db.writing.rows import ObservationRows

COLUMNS: Final = (
    "ts",
    "track_id",
    "channel_id",
    "x0",
    "y0",
    "x1",
    "y1",
    "score",
    *EMOTIONS,
    *(f"smoothed_{emotion}" for emotion in EMOTIONS),
    *AFFECT,
    *POSE,
)

COPY: Final = f"COPY observations ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"

POSTGRES_EPOCH: Final = np.datetime64("2000-01-01", "us")

WIDTHS: Final = {">i8": 8, ">i4": 4, ">f4": 4}


def track_ids(broadcast_id: int, track: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert track numbers to `face_tracks.id`."""
    return np.int64(broadcast_id) * TRACKS_PER_BROADCAST + track


def encode(channel_id: int, broadcast_id: int, rows: ObservationRows) -> bytes:
    """Return the rows in the binary format of COPY."""
    unknown = np.full((len(rows), 2), np.nan, dtype=np.float32)
    more = [unknown if values is None else values for values in (rows.affect, rows.pose)]
    emotions = np.concatenate([rows.probs, rows.smoothed, *more], axis=1)  # (M, 20)
    patterns, pattern = np.unique(np.isnan(emotions), axis=0, return_inverse=True)
    pieces = [HEADER]
    ids = track_ids(broadcast_id, rows.track)
    micros = (rows.ts - POSTGRES_EPOCH).astype(np.int64)
    for index, missing in enumerate(patterns):
        chosen = np.flatnonzero(pattern.reshape(-1) == index)
        columns: list[tuple[str, Any]] = [
            (">i8", micros[chosen]),
            (">i8", ids[chosen]),
            (">i4", channel_id),
            *((">f4", rows.boxes[chosen, side]) for side in range(4)),
            (">f4", rows.scores[chosen]),
            *(
                ("", None) if missing[column] else (">f4", emotions[chosen, column])
                for column in range(emotions.shape[1])
            ),
        ]
        layout: list[tuple[str, str]] = [("n", ">i2")]
        for place, (kind, _) in enumerate(columns):
            layout.append((f"length{place}", ">i4"))
            if kind:
                layout.append((f"value{place}", kind))
        packed = np.empty(len(chosen), dtype=np.dtype(layout))
        packed["n"] = len(columns)
        for place, (kind, values) in enumerate(columns):
            packed[f"length{place}"] = WIDTHS[kind] if kind else -1
            if kind:
                packed[f"value{place}"] = values
        pieces.append(packed.tobytes())
    return b"".join([*pieces, TRAILER])


def months(rows: ObservationRows) -> list[np.datetime64]:
    """Return the months (UTC) of these rows."""
    return list(np.unique(rows.ts.astype("datetime64[M]")))


def partition_name(month: np.datetime64) -> str:
    """Return the partition's name, as the SQL function `observations_partition` does."""
    return "observations_" + str(month.astype("datetime64[M]")).replace("-", "_")
