"""SQL for the retention of rows, by the time since their show was last written."""

from typing import Final

from sqlalchemy import DateTime, bindparam, text

from db.tables.shows import TRACKS_PER_BROADCAST

MAY_GO: Final = "NOT b.imported AND b.stored_at < :before"
"""Condition on broadcasts `b`: due for deletion, and not imported by hand."""

_OWN: Final = (
    f"o.channel_id = b.channel_id AND o.track_id >= b.id * {TRACKS_PER_BROADCAST}::bigint"
    f" AND o.track_id < (b.id + 1) * {TRACKS_PER_BROADCAST}::bigint"
)

_IN_MONTH: Final = "b.observed_from < :end AND b.observed_until > :start"

HOLDS_KEPT = text(f"SELECT EXISTS (SELECT FROM broadcasts b WHERE NOT ({MAY_GO}) AND {_IN_MONTH})")
"""Whether the month [:start, :end) has rows of a show that is not due."""

DUE_HOURS = text(
    "SELECT b.id, b.channel_id, hour FROM broadcasts b CROSS JOIN LATERAL generate_series("
    " greatest(b.observed_from, :start), least(b.observed_until, :end) - interval '1 us',"
    f" interval '1 hour') hour WHERE {MAY_GO} AND {_IN_MONTH} ORDER BY 1, 3"
).bindparams(*(bindparam(name, type_=DateTime(timezone=True)) for name in ("start", "end")))
"""The hours of [:start, :end) with rows of shows that are due."""

DELETE_HOUR = text(
    "DELETE FROM observations o USING broadcasts b"
    f" WHERE b.id = :broadcast AND {MAY_GO} AND {_OWN} AND o.channel_id = :channel"
    " AND o.ts >= :hour AND o.ts < least(CAST(:hour AS timestamptz) + interval '1 hour', :end)"
).bindparams(*(bindparam(name, type_=DateTime(timezone=True)) for name in ("hour", "end")))

# Writers maintain these bounds. This recomputes them where rows were dropped, or were written by
# an older version without bounds.
BOUND = text(
    "UPDATE broadcasts b SET observed_from = date_bin('1 hour', f.ts, '2000-01-01+00'),"
    " observed_until = date_bin('1 hour', l.ts, '2000-01-01+00') + interval '1 hour'"
    " FROM broadcasts d CROSS JOIN LATERAL ("
    "  SELECT least(d.observed_from, min(first_ts)) AS low,"
    "   greatest(d.observed_until, max(last_ts)) AS high"
    "  FROM face_tracks WHERE broadcast_id = d.id) t"
    f" LEFT JOIN LATERAL (SELECT o.ts FROM observations o WHERE {_OWN.replace('b.', 'd.')}"
    "  AND o.ts >= t.low AND o.ts <= t.high ORDER BY o.ts LIMIT 1) f ON true"
    f" LEFT JOIN LATERAL (SELECT o.ts FROM observations o WHERE {_OWN.replace('b.', 'd.')}"
    "  AND o.ts >= t.low AND o.ts <= t.high ORDER BY o.ts DESC LIMIT 1) l ON true"
    " WHERE b.id = d.id AND b.stored_at < CAST(:now AS timestamptz) - interval '1 day'"
    " AND (b.observed_from, b.observed_until) IS DISTINCT FROM"
    "  (date_bin('1 hour', f.ts, '2000-01-01+00'),"
    "   date_bin('1 hour', l.ts, '2000-01-01+00') + interval '1 hour')"
)

OLDEST = text("SELECT min(observed_from) FROM broadcasts b WHERE NOT b.imported")
"""Hour of the oldest raw row, without imports."""
