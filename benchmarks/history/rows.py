"""Shows of a year as rows, and two ways to store them: for `benchmarks.history`."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import Connection, Engine, text

from benchmarks.history.made_shows import make_show, pieces
from db.tables.shows import TRACKS_PER_BROADCAST
from db.writing.copying import COPY, encode, track_ids
from db.writing.means import RECOMPUTE_MINUTES, RECOMPUTE_SECONDS, span_of
from db.writing.rows import ObservationRows, SegmentRow
from db.writing.writes import ensure_channel, ensure_partition, open_broadcast, replace_segment

CHANNELS = 10
SHOW_S = 3600.0
YEAR = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """One generated show, with its rows."""

    number: int
    channel: int
    broadcast: int
    start: datetime
    rows: ObservationRows


def shows(engine: Engine, n_rows: int) -> Iterator[Show]:
    """Generate shows, spread over a year and the channels, up to this number of rows."""
    per_show = 54_000
    count = max(CHANNELS, -(-n_rows // per_show))
    made = 0
    for number in range(count):
        if made >= n_rows and number >= CHANNELS:
            return
        slot = timedelta(days=365) * (number // CHANNELS) / max(1, -(-count // CHANNELS))
        start = (YEAR + slot).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            channel = ensure_channel(connection, f"channel-{number % CHANNELS}", "http://made")
            broadcast = open_broadcast(connection, channel_id=channel, started_at=start)
            ensure_partition(connection, start)
        rows = make_show((number,), start=start, seconds=SHOW_S)
        made += len(rows)
        yield Show(number=number, channel=channel, broadcast=broadcast, start=start, rows=rows)


def store(
    engine: Engine, show: Show, *, segment_s: float, seconds: float
) -> tuple[int, list[float]]:
    """Store a show's first seconds with the real write path; return rows and times in s."""
    n_rows, took = 0, []
    cut = pieces(show.rows, start=show.start, seconds=seconds, segment_s=segment_s)
    for index, (at, part) in enumerate(cut):
        segment = SegmentRow(
            channel_id=show.channel,
            broadcast_id=show.broadcast,
            sequence=index,
            started_at=at,
            duration_s=segment_s,
            frames_analysed=round(segment_s * 5),
            analysed_fps=5.0,
            model="made",
            lag_ms=900,
        )
        began = time.perf_counter()
        n_rows += replace_segment(engine, segment, part).observations
        took.append(time.perf_counter() - began)
    return n_rows, took


def load(connection: Connection, show: Show) -> None:
    """Store a show with COPY, with the segments, tracks and minutes of the write path."""
    copy(connection, COPY, encode(show.channel, show.broadcast, show.rows))
    ids = track_ids(show.broadcast, show.rows.track)
    order = np.argsort(ids, kind="stable")
    present, first = np.unique(ids[order], return_index=True)
    ts = show.rows.ts[order]
    last = np.append(first[1:], len(ids)) - 1
    connection.execute(
        text("INSERT INTO face_tracks VALUES (:id, :broadcast, :no, :first, :last)"),
        [
            {
                "id": int(present[i]),
                "broadcast": show.broadcast,
                "no": int(present[i] % TRACKS_PER_BROADCAST),
                "first": ts[first[i]].item().replace(tzinfo=UTC),
                "last": ts[last[i]].item().replace(tzinfo=UTC),
            }
            for i in range(len(present))
        ],
    )
    span = {
        "channel": show.channel,
        "broadcast": show.broadcast,
        "start": show.start,
        "end": show.start + timedelta(seconds=SHOW_S),
    }
    connection.execute(
        text(
            "INSERT INTO segments (channel_id, started_at, ended_at, broadcast_id, sequence,"
            " duration_s, status, frames_analysed, analysed_fps, model, lag_ms)"
            " SELECT :channel, at, at + interval '2 s', :broadcast,"
            " row_number() OVER (ORDER BY at) - 1, 2, 'analysed',"
            " 10, 5, 'made', 900 FROM generate_series(CAST(:start AS timestamptz),"
            " CAST(:end AS timestamptz) - interval '2 s', interval '2 s') at"
        ),
        span,
    )
    touched = span | span_of(show.start, span["end"]) | {"kept": []}
    connection.execute(RECOMPUTE_SECONDS, touched)
    connection.execute(RECOMPUTE_MINUTES, touched)
    connection.execute(
        text(
            "UPDATE broadcasts SET title = 'Show ' || id, observed_from = :start,"
            " observed_until = CAST(:end AS timestamptz) WHERE id = :broadcast"
        ),
        span,
    )


def copy(connection: Connection, statement: str, payload: bytes) -> None:
    """Send bytes by COPY."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    cursor = driver.cursor()
    cursor.copy_expert(statement, io.BytesIO(payload))
    cursor.close()
