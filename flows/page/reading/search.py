"""Search: when an emotion was strong for a time, as one SQL statement that users may copy."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, TextClause, bindparam, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Float, Integer, String

from db.tables.shows import EMOTIONS
from flows.errors import UsageError

MAX_MOMENTS: Final = 50
"""Most results that are shown."""

DAYS: Final = {"all": "1,2,3,4,5,6,7", "weekdays": "1,2,3,4,5", "weekend": "6,7"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A search for times in which an emotion's mean over all faces is above a value for a time."""

    channel: str
    emotion: str
    above: float
    for_s: int
    faces: int
    days: str
    from_hour: int
    to_hour: int
    since: datetime
    until: datetime
    zone: str
    order: Literal["newest", "strongest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A time range that was found; times are aware UTC."""

    broadcast_id: int
    show: str
    begin: datetime
    end: datetime
    peak: float
    peak_at: datetime
    faces: int


def parse(form: dict[str, str], channels: list[str], now: datetime) -> Search:
    """Parse a search form; raises UsageError that names the field."""
    channel = form.get("channel") or (channels[0] if channels else "")
    if channel not in channels:
        raise UsageError(f"there is no channel {channel!r} in this history")
    emotion = form.get("emotion", "anger")
    if emotion not in EMOTIONS:
        raise UsageError(f"there is no emotion {emotion!r}: one of {', '.join(EMOTIONS)}")
    zone = form.get("zone") or "UTC"
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError) as e:
        raise UsageError(f"{zone!r} is not a time zone: write it as Europe/Berlin") from e
    until = _day(form.get("until"), "until", now, zone) + timedelta(days=1)
    since = _day(form.get("since"), "since", now - timedelta(days=30), zone)
    if until <= since:
        raise UsageError("since: the first day comes after the last")
    if until - since > timedelta(days=370):
        raise UsageError("since: at most a year")
    days = form.get("days", "all")
    if days not in DAYS:
        raise UsageError(f"days: one of {', '.join(DAYS)}")
    return Search(
        channel=channel,
        emotion=emotion,
        above=_number(form, "above", 0.6, 0, 1),
        for_s=int(_number(form, "for", 3, 1, 3600)),
        faces=int(_number(form, "faces", 1, 1, 100)),
        days=days,
        from_hour=int(_number(form, "from_hour", 0, 0, 23)),
        to_hour=int(_number(form, "to_hour", 24, 1, 24)),
        since=since,
        until=until,
        zone=zone,
        order="strongest" if form.get("order") == "strongest" else "newest",
    )


def statement(search: Search) -> TextClause:
    """Return the statement, its values bound."""
    order = "begin DESC" if search.order == "newest" else "peak DESC, begin DESC"
    when = ""
    if search.days != "all":
        when += (
            "\n        AND extract(isodow FROM second AT TIME ZONE :zone)"
            f" IN ({DAYS[search.days].replace(',', ', ')})"
        )
    if (search.from_hour, search.to_hour) != (0, 24):
        when += (
            "\n        AND extract(hour FROM second AT TIME ZONE :zone) >= :from_hour"
            "\n        AND extract(hour FROM second AT TIME ZONE :zone) < :to_hour"
        )
    query = text(
        f"""WITH hits AS (
    SELECT broadcast_id, show, second, {search.emotion} AS value, tracks,
        second - row_number() OVER (PARTITION BY broadcast_id ORDER BY second)
            * interval '1 second' AS run
    FROM emotion_seconds
    WHERE channel = :channel
        AND second >= CAST(:since AS timestamptz) AND second < CAST(:until AS timestamptz)
        AND {search.emotion} >= :above AND tracks >= :faces{when}
)
SELECT broadcast_id, show, min(second) AS begin, max(second) + interval '1 second' AS end,
    max(value) AS peak, max(tracks) AS faces,
    (array_agg(second ORDER BY value DESC))[1] AS peak_at
FROM hits
GROUP BY broadcast_id, show, run
HAVING count(*) >= :for_s
ORDER BY {order}
LIMIT {MAX_MOMENTS}"""
    )
    values: dict[str, tuple[Any, Any]] = {
        "channel": (search.channel, String()),
        "since": (search.since.isoformat(), String()),
        "until": (search.until.isoformat(), String()),
        "above": (search.above, Float()),
        "faces": (search.faces, Integer()),
        "for_s": (search.for_s, Integer()),
        "zone": (search.zone, String()),
        "from_hour": (search.from_hour, Integer()),
        "to_hour": (search.to_hour, Integer()),
    }
    names = set(re.findall(r"(?<!:):(\w+)", query.text))
    return query.bindparams(
        *(bindparam(name, values[name][0], type_=values[name][1]) for name in sorted(names))
    )


def as_sql(search: Search) -> str:
    """Return the statement for psql, its values written out."""
    compiled = statement(search).compile(
        dialect=postgresql.dialect(paramstyle="named"),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    return f"{compiled};"


def find(connection: Connection, search: Search) -> list[Stretch]:
    """Return the results, at most MAX_MOMENTS."""
    return [Stretch(**row._mapping) for row in connection.execute(statement(search))]


def _number(form: dict[str, str], name: str, default: float, low: float, high: float) -> float:
    given = form.get(name) or str(default)
    try:
        value = float(given)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"{name}: a number from {low:g} to {high:g}, not {given[:40]!r}")
    return value


def _day(given: str | None, name: str, default: datetime, zone: str) -> datetime:
    """Return the beginning of a day there, aware UTC."""
    try:
        day = (
            datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone))
            if given
            else default.astimezone(ZoneInfo(zone))
        )
        return day.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise UsageError(f"{name}: a day, as 2026-11-22, not {str(given)[:40]!r}") from e
