"""The page's SQL queries on the views, except for search."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Integer

from db.tables.shows import EMOTIONS

LISTED: Final = 8
"""Most shows of each channel in the list, the newest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowRow:
    """A show; times are aware. status: live in its row: on air, or interrupted."""

    broadcast_id: int
    channel: str
    show: str
    started_at: datetime
    planned_end: datetime | None
    ended_at: datetime | None
    status: str
    flow_run_id: str | None


_RAW: Final = ", ".join(f"raw_{name}" for name in EMOTIONS)
_MEANS: Final = ", ".join(
    f"(sum({name} * {name}_known_s) / nullif(sum({name}_known_s), 0))::real AS {name}"
    for name in EMOTIONS
)
"""Means over minutes, weighted by their seconds with a value."""
_COLUMNS: Final = (
    "broadcast_id, channel, show, started_at, planned_end, ended_at, status, flow_run_id"
)
_SHOW = text(f"SELECT {_COLUMNS} FROM shows WHERE broadcast_id = :id")
_CHANNELS = text("SELECT DISTINCT channel FROM shows ORDER BY channel")
_SHOWS = text(
    f"SELECT {_COLUMNS} FROM (SELECT *, row_number() OVER"
    " (PARTITION BY channel ORDER BY started_at DESC) AS place FROM shows"
    " WHERE CAST(:channel AS text) IS NULL OR channel = :channel) s"
    " WHERE place > :skip AND place <= :skip + :most ORDER BY channel, started_at DESC"
)
_STRIPS = text(
    f"SELECT broadcast_id, minute, seconds, tracks, emotion, {', '.join(EMOTIONS)}"
    " FROM emotion_timeline WHERE broadcast_id = ANY(:ids) ORDER BY broadcast_id, minute"
).bindparams(bindparam("ids", type_=ARRAY(Integer)))
_FIGURES = text(
    "SELECT s.broadcast_id, g.gaps, g.gap_s, t.tracks, r.recorded_s, r.begin, r.until"
    " FROM shows s"
    " CROSS JOIN LATERAL (SELECT count(*) AS gaps, coalesce(extract(epoch FROM"
    "  sum(ended_at - started_at)), 0)::float8 AS gap_s"
    "  FROM show_gaps WHERE broadcast_id = s.broadcast_id) g"
    " CROSS JOIN LATERAL (SELECT count(*) AS tracks"
    "  FROM track_summary WHERE broadcast_id = s.broadcast_id) t"
    " CROSS JOIN LATERAL (SELECT coalesce(sum(duration_s), 0) AS recorded_s,"
    "  min(started_at) AS begin, max(ended_at) AS until"
    "  FROM show_segments WHERE broadcast_id = s.broadcast_id) r"
    " WHERE s.broadcast_id = ANY(:ids)"
).bindparams(bindparam("ids", type_=ARRAY(Integer)))
_STATE = text(
    "SELECT count(*) AS segments, min(started_at) AS begin, max(ended_at) AS until,"
    " count(*) FILTER (WHERE status = 'analysed') AS analysed,"
    " count(*) FILTER (WHERE status = 'failed') AS failed, count(path) AS on_disk,"
    " count(object_key) AS in_store,"
    " min(machine) AS machine, min(model) AS a_model, max(model) AS b_model, min(fps) AS low_fps,"
    " max(fps) AS high_fps, sum(frames) AS frames, sum(lag_ms) AS lag_ms,"
    " (SELECT count(*) FROM show_gaps WHERE broadcast_id = :id) AS gaps,"
    " (SELECT stored_at FROM coverage WHERE broadcast_id = :id) AS stored_at"
    " FROM show_segments WHERE broadcast_id = :id"
)
_SEGMENTS = text(
    "SELECT broadcast_id, sequence, started_at, duration_s, offset_s, status, path, machine,"
    " coalesce(width_px, 0) AS width_px, coalesce(height_px, 0) AS height_px, start_is_estimated,"
    " is_ad, object_key, sha256, coalesce(needs, '{}') AS needs FROM show_segments"
    " WHERE broadcast_id = :id ORDER BY started_at"
)
_GAPS = text(
    "SELECT started_at, ended_at, why FROM show_gaps WHERE broadcast_id = :id ORDER BY started_at"
)
_CUTS = text("SELECT started_at FROM show_shots WHERE broadcast_id = :id ORDER BY started_at")
_SPAN: Final = "broadcast_id = :id AND minute >= :since AND minute < :until"
_SPAN_S: Final = (
    "channel = :channel AND broadcast_id = :id AND second >= :since AND second < :until"
)
_MINUTES = text(
    f"SELECT minute AS at, tracks, {', '.join(EMOTIONS)}, {_RAW} FROM emotion_timeline"
    f" WHERE {_SPAN} ORDER BY minute"
)
_SECONDS = text(
    f"SELECT second AS at, tracks, {', '.join(EMOTIONS)}, {_RAW} FROM emotion_seconds"
    f" WHERE {_SPAN_S} ORDER BY second"
)
_BUCKETS = text(
    "SELECT date_bin(:bucket, second, 'epoch') AS at, max(tracks) AS tracks, "
    + ", ".join(f"avg({name}) AS {name}, avg(raw_{name}) AS raw_{name}" for name in EMOTIONS)
    + f" FROM emotion_seconds WHERE {_SPAN_S} GROUP BY 1 ORDER BY 1"
)
_FACES = text(
    "SELECT ts, track, score, x0, y0, x1, y1, " + ", ".join(EMOTIONS) + " FROM emotion_history"
    " WHERE channel = :channel AND ts >= :since AND ts < :until AND broadcast_id = :id"
    " ORDER BY ts, track"
)
_TRACKS = text(
    "SELECT track, first_ts, last_ts, emotion, observations FROM track_summary"
    " WHERE broadcast_id = :id ORDER BY first_ts, track"
)
_USUAL = text(
    "WITH last AS (SELECT broadcast_id, started_at FROM shows WHERE channel = :channel"
    "  AND broadcast_id <> :id AND started_at < :before ORDER BY started_at DESC LIMIT 10),"
    " timed AS (SELECT t.*, min(minute) OVER (PARTITION BY broadcast_id) AS first"
    "  FROM emotion_timeline t WHERE broadcast_id IN (SELECT broadcast_id FROM last))"
    " SELECT (extract(epoch FROM minute - first) / 60)::integer AS at,"
    f" count(DISTINCT broadcast_id) AS shows, {_MEANS}"
    " FROM timed GROUP BY 1 ORDER BY 1"
)
_WEEK = text(
    "SELECT extract(isodow FROM minute AT TIME ZONE :zone)::integer AS day,"
    " extract(hour FROM minute AT TIME ZONE :zone)::integer AS hour,"
    f" {_MEANS} FROM emotion_timeline"
    " WHERE channel = :channel AND minute >= :since AND minute < :until GROUP BY 1, 2"
)


def channels(connection: Connection) -> list[str]:
    """Return the channels that have had a show."""
    return list(connection.scalars(_CHANNELS))


def show(connection: Connection, broadcast_id: int) -> ShowRow | None:
    """Return a show by its number; None if there is none."""
    row = connection.execute(_SHOW, {"id": broadcast_id}).one_or_none()
    return ShowRow(**row._mapping) if row else None


def state(connection: Connection, broadcast_id: int) -> Row[Any]:
    """Return values that change whenever a show's rows do.

    begin, until: of what was recorded; None if nothing was. The rest is only compared.
    """
    return connection.execute(_STATE, {"id": broadcast_id}).one()


def shows(
    connection: Connection, channel: str | None = None, *, most: int = LISTED, skip: int = 0
) -> list[ShowRow]:
    """Return the last shows of each channel, the newest first."""
    values = {"channel": channel, "most": most, "skip": skip}
    return [ShowRow(**row._mapping) for row in connection.execute(_SHOWS, values)]


def rows(connection: Connection, name: str, **values: object) -> Sequence[Any]:
    """Return the rows of a query by its name; columns are attributes."""
    return connection.execute(_BY_NAME[name], values).all()


_BY_NAME: Final = {
    "strips": _STRIPS,
    "figures": _FIGURES,
    "segments": _SEGMENTS,
    "gaps": _GAPS,
    "minutes": _MINUTES,
    "seconds": _SECONDS,
    "buckets": _BUCKETS,
    "faces": _FACES,
    "tracks": _TRACKS,
    "cuts": _CUTS,
    "usual": _USUAL,
    "week": _WEEK,
}
