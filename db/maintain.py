"""Maintenance of the history: creates partitions in advance, and deletes old rows of each table.

The age of rows is the time since their show was last written, not since it was on air.
Imports by hand stay until they are deleted explicitly.

Idempotent, and safe to run concurrently with writers and readers: every step is a short
transaction, and dropping a partition, which needs an exclusive lock, is retried.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from db import ages
from db.session import explain

_log = logging.getLogger(__name__)

MONTHS_AHEAD: Final = 2
BATCH_ROWS: Final = 10_000
DROP_ATTEMPTS: Final = 30
DROP_PAUSE_S: Final = 0.5

LOCK_TIMEOUT: Final = "5s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """Minimum days for which each table's rows are kept; None: for ever.

    observations are dropped by whole months (UTC), once all rows of a month are old enough, both by
    their time and by the time of writing. Minutes and tracks are kept at least as long as the raw
    rows of their time; seconds are deleted with the raw rows, shots with the tracks.
    """

    observations_days: int | None = None
    minutes_days: int | None = None
    tracks_days: int | None = None
    segments_days: int | None = None
    gaps_days: int | None = None

    def __post_init__(self) -> None:
        """Check that rows are kept for at least a day."""
        for name in self.__slots__:
            days = getattr(self, name)
            if days is not None and days < 1:
                raise ValueError(f"{name} must be at least 1, not {days}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintained:
    """The result for one table.

    before: rows older than this were due; None if they are kept for ever. made, dropped:
    partitions by name. deleted: number of rows, without those of dropped partitions; partitions
    that also have rows to keep are deleted row by row. postponed: partitions that were in use,
    and are left for the next run.
    """

    table: str
    before: datetime | None
    made: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    deleted: int = 0
    postponed: tuple[str, ...] = ()


def maintain(engine: Engine, retention: Retention, *, now: datetime) -> list[Maintained]:
    """Create the partitions of this and the next months, and delete rows that are too old.

    If `observations` is not partitioned by us (an extension does it), that table is skipped.
    now: aware. Return one entry per table. Raise DatabaseUnreachable, DatabaseBusy or
    DatabaseRefused; finished steps stay committed, and the next run continues.
    """
    if now.tzinfo is None:
        raise ValueError(f"now must be aware, not {now!r}")
    cuts = {
        table: None if days is None else now - timedelta(days=days)
        for table, days in (
            ("observations", retention.observations_days),
            ("seconds", retention.observations_days),
            ("emotion_minutes", retention.minutes_days),
            ("face_tracks", retention.tracks_days),
            ("shots", retention.tracks_days),
            ("segments", retention.segments_days),
            ("gaps", retention.gaps_days),
        )
    }
    try:
        raw = cuts["observations"]
        made: tuple[str, ...] = ()
        dropped: tuple[str, ...] = ()
        postponed: tuple[str, ...] = ()
        deleted = 0
        if _has_months(engine):
            made = _make_months(engine, now)
            if raw is not None:
                dropped, postponed, deleted = _drop_months(engine, raw)
        with engine.begin() as connection:
            _limit_locks(connection)
            connection.execute(ages.BOUND, {"now": now})
            oldest = connection.scalar(ages.OLDEST)
        for table in ("emotion_minutes", "face_tracks"):
            cut = cuts[table]
            cuts[table] = cut and min(cut, _month(oldest or now))
        return [
            Maintained(
                table="observations",
                before=raw,
                made=made,
                dropped=dropped,
                deleted=deleted,
                postponed=postponed,
            ),
            *(
                Maintained(
                    table=table,
                    before=cuts[table],
                    deleted=_delete(engine, statement, cuts[table]),
                )
                for table, statement in _DELETE.items()
            ),
        ]
    except DBAPIError as error:
        if (known := explain(engine.url, error)) is not None:
            raise known from error
        raise


def _make_months(engine: Engine, now: datetime) -> tuple[str, ...]:
    month = _month(now)
    made = []
    for _ in range(MONTHS_AHEAD + 1):
        with engine.begin() as connection:
            _limit_locks(connection)
            there = _months(connection)
            name = connection.scalar(text("SELECT observations_partition(:at)"), {"at": month})
        if name not in there:
            made.append(str(name))
        month = _next(month)
    return tuple(made)


def _drop_months(engine: Engine, before: datetime) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Return the months that were dropped, those in use, and the rows deleted from others."""
    with engine.connect() as connection:
        months = _months(connection)
    dropped, postponed, deleted = [], [], 0
    for name, month in months.items():
        if _next(month) > before:
            continue
        span = {"before": before, "start": month, "end": _next(month)}
        with engine.connect() as connection:
            kept = bool(connection.scalar(ages.HOLDS_KEPT, span))
        if kept:
            deleted += _delete_from_month(engine, span)
            continue
        gone = _drop_month(engine, month)
        if gone is None:
            _log.warning("%s is in use: it will be dropped by the next run", name)
            postponed.append(name)
        elif gone:
            dropped.append(name)
    return tuple(dropped), tuple(postponed), deleted


def _delete_from_month(engine: Engine, span: dict[str, datetime]) -> int:
    """Delete the due rows of a month, an hour of a show at a time."""
    with engine.connect() as connection:
        hours = connection.execute(ages.DUE_HOURS, span).all()
    deleted = 0
    for broadcast, channel, hour in hours:
        with engine.begin() as connection:
            _limit_locks(connection)
            of = {"broadcast": broadcast, "channel": channel, "hour": hour}
            deleted += connection.execute(ages.DELETE_HOUR, span | of).rowcount
    return deleted


def _drop_month(engine: Engine, month: datetime) -> bool | None:
    """Return whether it existed; None if it was in use at every attempt."""
    pause = threading.Event()
    for _ in range(DROP_ATTEMPTS):
        try:
            with engine.begin() as connection:
                return bool(connection.scalar(text("SELECT observations_drop(:at)"), {"at": month}))
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in ("55P03", "40P01"):
                raise
        pause.wait(DROP_PAUSE_S)
    return None


def _deleting(table: str, due: str) -> TextClause:
    return text(
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT d.ctid FROM {table} d {due}"
        f" LIMIT {BATCH_ROWS} FOR UPDATE OF d SKIP LOCKED))"
    )


# Joins rows `d` with shows that are due and not imported.
_DUE: Final = "JOIN broadcasts b ON b.id = d.broadcast_id AND " + ages.MAY_GO
_RAW_IS_GONE: Final = "(b.observed_from IS NULL OR b.observed_from > {})"
_ENDED: Final = (
    f"{_DUE} WHERE d.channel_id = :channel AND d.started_at < :before AND d.ended_at <= :before"
)

# Per channel, so that indexes are used.
_DELETE: Final = {
    "seconds": _deleting(
        "seconds",
        f"{_DUE} WHERE d.channel_id = :channel AND d.second < :before"
        f" AND {_RAW_IS_GONE.format('d.second')}",
    ),
    "emotion_minutes": _deleting(
        "emotion_minutes",
        f"{_DUE} WHERE d.channel_id = :channel AND d.minute < :before"
        f" AND {_RAW_IS_GONE.format('d.minute')}",
    ),
    "face_tracks": _deleting(
        "face_tracks",
        f"{_DUE} WHERE b.channel_id = :channel AND d.last_ts < :before"
        f" AND {_RAW_IS_GONE.format('d.last_ts')}",
    ),
    "shots": _deleting(
        "shots",
        f"{_DUE} WHERE d.channel_id = :channel AND d.started_at < :before"
        f" AND {_RAW_IS_GONE.format('d.started_at')}",
    ),
    "segments": _deleting(
        "segments",
        f"{_ENDED} AND NOT EXISTS (SELECT FROM kept k WHERE k.channel_id = d.channel_id"
        " AND k.started_at < d.ended_at AND k.ended_at > d.started_at)",
    ),
    "gaps": _deleting("gaps", _ENDED),
}


def _delete(engine: Engine, statement: TextClause, before: datetime | None) -> int:
    """Delete in batches, each in its own transaction, to keep locks short."""
    if before is None:
        return 0
    with engine.connect() as connection:
        channels = connection.scalars(text("SELECT id FROM channels ORDER BY id")).all()
    deleted = 0
    for channel in channels:
        n_rows = BATCH_ROWS
        while n_rows == BATCH_ROWS:
            with engine.begin() as connection:
                _limit_locks(connection)
                span = {"channel": channel, "before": before}
                n_rows = connection.execute(statement, span).rowcount
            deleted += n_rows
    return deleted


def _limit_locks(connection: Connection) -> None:
    connection.execute(text("SELECT set_config('lock_timeout', :t, true)"), {"t": LOCK_TIMEOUT})


def _has_months(engine: Engine) -> bool:
    with engine.connect() as connection:
        found = connection.scalar(
            text("SELECT 1 FROM pg_partitioned_table WHERE partrelid = 'observations'::regclass")
        )
    return found is not None


def _months(connection: Connection) -> dict[str, datetime]:
    """Return the partitions and the beginnings of their months, in order."""
    names = connection.scalars(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'observations'::regclass ORDER BY 1"
        )
    )
    return {
        name: datetime.strptime(name, "observations_%Y_%m").replace(tzinfo=UTC) for name in names
    }


def _month(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(month: datetime) -> datetime:
    return _month(month + timedelta(days=31))
