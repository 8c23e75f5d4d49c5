"""SQL to recompute the means of seconds, and of minutes from their seconds.

A second with a face counts once, independent of the number of faces and analysed frames,
so a mean over a minute or a show is one over time. Within a second each observation counts.
An analysed second without a face has a row without means. Advertisements are excluded.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime

from db.tables.shows import AFFECT, EMOTIONS, NO_AD, TRACKS_PER_BROADCAST

COLUMNS_OF_MEANS: Final = (*EMOTIONS, *(f"raw_{emotion}" for emotion in EMOTIONS), *AFFECT)
"""Columns of means in `seconds` and `emotion_minutes`, in the order of `_OBSERVED`."""

_OBSERVED: Final = (*(f"smoothed_{emotion}" for emotion in EMOTIONS), *EMOTIONS, *AFFECT)

STRONGEST: Final = (
    f"CASE greatest({', '.join(EMOTIONS)}) "
    + " ".join(f"WHEN {emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    + " END"
)
"""SQL for the strongest emotion, the first of equals; null without emotions."""

_OF_BROADCAST: Final = (
    f"o.track_id >= m.broadcast_id * {TRACKS_PER_BROADCAST}::bigint"
    f" AND o.track_id < (m.broadcast_id + 1) * {TRACKS_PER_BROADCAST}::bigint"
)


def _counted(unit: str) -> str:
    return (
        f"(SELECT count(*) FROM observations o WHERE o.channel_id = m.channel_id"
        f" AND o.ts >= m.{unit} AND o.ts < m.{unit} + interval '1 {unit}' AND {_OF_BROADCAST}"
        f" AND {NO_AD})"
    )


def _recompute(table: str, unit: str, fresh: str, columns: tuple[str, ...]) -> TextClause:
    """Return the statement that replaces a table's rows of a stretch by those of `fresh`.

    Its parameter `kept`: the seconds or minutes whose rows are not changed.
    """
    names = f"{unit}, channel_id, broadcast_id, {', '.join(columns)}"
    return text(
        f"WITH fresh AS MATERIALIZED ({fresh}), written AS ("
        f"INSERT INTO {table} ({names}) SELECT {names} FROM fresh WHERE {unit} <> ALL(:kept)"
        f" ON CONFLICT (channel_id, {unit}, broadcast_id) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in columns)
        + f") DELETE FROM {table} WHERE channel_id = :channel"
        f" AND {unit} >= :first_{unit} AND {unit} < :end_{unit} AND {unit} <> ALL(:kept)"
        f" AND ({unit}, broadcast_id) NOT IN (SELECT {unit}, broadcast_id FROM fresh)"
    ).bindparams(bindparam("kept", type_=ARRAY(DateTime(timezone=True))))


INCOMPLETE_MINUTES: Final = (
    "SELECT m.minute FROM emotion_minutes m WHERE m.channel_id = :channel"
    f" AND m.minute >= :first_minute AND m.minute < :end_minute AND m.n <> {_counted('minute')}"
)

# Only at the segment's ends: seconds inside the segment are replaced completely.
INCOMPLETE_SECONDS: Final = (
    "SELECT m.second FROM seconds m WHERE m.channel_id = :channel AND m.second >= :first_second"
    " AND m.second < :end_second AND (m.second < :start OR m.second + interval '1 s' > :end)"
    f" AND m.n <> {_counted('second')}"
)

FRAMES_US: Final = (
    "coalesce(s.frames_us, ARRAY(SELECT (i * s.duration_s * 1000000 / s.frames_analysed)::integer"
    " FROM generate_series(0, s.frames_analysed - 1) i))"
)
"""A segment's analysed frames; evenly spaced if an older version did not store their times."""

# The order of summation is fixed, so that the same rows give bit-identical means, independent of
# the order of writes.
FRESH_SECONDS: Final = (
    "SELECT coalesce(o.second, l.second) AS second, CAST(:channel AS integer) AS channel_id,"
    " coalesce(o.broadcast_id, l.broadcast_id) AS broadcast_id, coalesce(l.looks, 0) AS looks,"
    f" coalesce(o.n, 0) AS n, coalesce(o.tracks, 0) AS tracks, {', '.join(COLUMNS_OF_MEANS)},"
    " coalesce(l.is_ad, false) AS is_ad FROM (SELECT date_trunc('second', ts, 'UTC') AS second,"
    f"  (track_id / {TRACKS_PER_BROADCAST})::integer AS broadcast_id,"
    "  count(*)::integer AS n, count(DISTINCT track_id)::integer AS tracks, "
    + ", ".join(
        f"avg({column} ORDER BY ts, track_id)::real AS {name}"
        for name, column in zip(COLUMNS_OF_MEANS, _OBSERVED, strict=True)
    )
    + "  FROM observations o WHERE channel_id = :channel"
    f"  AND ts >= :first_second AND ts < :end_second AND {NO_AD} GROUP BY 1, 2) o"
    " FULL JOIN (SELECT date_trunc('second', s.started_at + f * interval '1 us', 'UTC') AS second,"
    "  s.broadcast_id, count(*)::integer AS looks, bool_and(coalesce(s.is_ad, false)) AS is_ad"
    f"  FROM segments s CROSS JOIN unnest({FRAMES_US}) f WHERE s.channel_id = :channel"
    "  AND s.started_at < :end_second AND s.ended_at > :first_second"
    "  AND s.started_at > CAST(:first_second AS timestamptz) - interval '10 minutes'"
    "  AND s.status = 'analysed' AND s.started_at + f * interval '1 us' < s.ended_at"
    "  GROUP BY 1, 2) l USING (second, broadcast_id)"
    " WHERE coalesce(o.second, l.second) >= :first_second"
    " AND coalesce(o.second, l.second) < :end_second"
)

_SECOND_COLUMNS: Final = ("looks", "n", "tracks", *COLUMNS_OF_MEANS, "is_ad")

RECOMPUTE_SECONDS: Final = _recompute("seconds", "second", FRESH_SECONDS, _SECOND_COLUMNS)

_KNOWN: Final = (*(f"{emotion}_known_s" for emotion in EMOTIONS), "affect_known_s")

FRESH_MINUTES: Final = (
    "SELECT s.channel_id, s.minute, s.broadcast_id, o.n, o.tracks, "
    + ", ".join(f"s.{name}" for name in EMOTIONS)
    + ", s.seconds, "
    + ", ".join(f"s.{name}_s" for name in EMOTIONS)
    + ", "
    + ", ".join(f"s.{name}" for name in COLUMNS_OF_MEANS[len(EMOTIONS) :])
    + ", g.models, g.low_fps, g.high_fps, "
    + ", ".join(f"s.{name}" for name in _KNOWN)
    + " FROM (SELECT channel_id, broadcast_id,"
    "  date_trunc('minute', second, 'UTC') AS minute, count(*)::integer AS seconds, "
    + ", ".join(f"avg({name} ORDER BY second)::real AS {name}" for name in COLUMNS_OF_MEANS)
    + ", "
    + ", ".join(
        f"(count(*) FILTER (WHERE ({STRONGEST}) = '{name}'))::smallint AS {name}_s"
        for name in EMOTIONS
    )
    + ", "
    + ", ".join(
        f"count({name})::smallint AS {known}"
        for name, known in zip((*EMOTIONS, "valence"), _KNOWN, strict=True)
    )
    + "  FROM seconds WHERE channel_id = :channel AND n > 0"
    "  AND second >= :first_minute AND second < :end_minute GROUP BY 1, 2, 3) s"
    " JOIN (SELECT date_trunc('minute', ts, 'UTC') AS minute,"
    f"  (track_id / {TRACKS_PER_BROADCAST})::integer AS broadcast_id,"
    "  count(*)::integer AS n, count(DISTINCT track_id)::integer AS tracks"
    "  FROM observations o WHERE channel_id = :channel"
    f"  AND ts >= :first_minute AND ts < :end_minute AND {NO_AD} GROUP BY 1, 2) o"
    " USING (minute, broadcast_id)"
    " CROSS JOIN LATERAL (SELECT string_agg(DISTINCT model, ', ' ORDER BY model) AS models,"
    "  min(analysed_fps)::real AS low_fps, max(analysed_fps)::real AS high_fps FROM segments g"
    "  WHERE g.broadcast_id = s.broadcast_id AND g.started_at < s.minute + interval '1 minute'"
    "  AND g.started_at > s.minute - interval '10 minutes' AND g.ended_at > s.minute"
    "  AND g.status = 'analysed') g"
)

_MINUTE_COLUMNS: Final = (
    "n",
    "tracks",
    *EMOTIONS,
    "seconds",
    *(f"{emotion}_s" for emotion in EMOTIONS),
    *COLUMNS_OF_MEANS[len(EMOTIONS) :],
    "models",
    "low_fps",
    "high_fps",
    *_KNOWN,
)

RECOMPUTE_MINUTES: Final = _recompute("emotion_minutes", "minute", FRESH_MINUTES, _MINUTE_COLUMNS)


def span_of(start: datetime, end: datetime) -> dict[str, datetime]:
    """Return the ranges of whole seconds and whole minutes that [start, end) touches."""
    return {
        "first_second": _floor(start, 1),
        "end_second": _ceil(end, 1),
        "first_minute": _floor(start, 60),
        "end_minute": _ceil(end, 60),
    }


def _floor(moment: datetime, step_s: int) -> datetime:
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole if step_s == 1 else whole.replace(second=0)


def _ceil(moment: datetime, step_s: int) -> datetime:
    floor = _floor(moment, step_s)
    return floor if floor == moment else floor + timedelta(seconds=step_s)
