"""Further views and functions for analysts, and a function to drop old months.

Revision ID: 9d3e5a7c1b28
Revises: 6b1f0c2d9a47
Create Date: 2026-11-22 16:30:00
"""

import sqlalchemy as sa
from alembic import op

revision = "9d3e5a7c1b28"
down_revision = "6b1f0c2d9a47"
branch_labels = None
depends_on = None

EMOTIONS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
TRACKS_PER_BROADCAST = 100_000_000

SHOW = "coalesce(nullif(b.title, ''), c.slug)"


def dominant(prefix: str = "") -> str:
    """Return the SQL expression for the strongest emotion; null without values."""
    strongest = f"greatest({', '.join(f'{prefix}{emotion}' for emotion in EMOTIONS)})"
    whens = " ".join(f"WHEN {prefix}{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"CASE {strongest} {whens} END"


def listed(pattern: str) -> str:
    """Return the pattern once for each emotion, with commas."""
    return ", ".join(pattern.format(emotion) for emotion in EMOTIONS)


# Joined with the minutes, which are few and have their broadcast: so a show's seconds are found
# without a range of time, and each observation is counted in exactly one row.
EMOTION_SECONDS = f"""
CREATE VIEW emotion_seconds AS
SELECT c.slug AS channel, {SHOW} AS show, s.second,
    {dominant("s.")} AS emotion,
    s.observations, s.tracks,
    {listed("s.{0}")},
    b.id AS broadcast_id, m.minute
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
CROSS JOIN LATERAL (
    SELECT date_trunc('second', o.ts, 'UTC') AS second,
        count(*)::integer AS observations, count(DISTINCT o.track_id)::integer AS tracks,
        {listed("avg(o.smoothed_{0})::real AS {0}")}
    FROM observations o
    WHERE o.channel_id = m.channel_id
        AND o.ts >= m.minute AND o.ts < m.minute + interval '1 minute'
        AND o.track_id >= m.broadcast_id * {TRACKS_PER_BROADCAST}::bigint
        AND o.track_id < (m.broadcast_id + 1) * {TRACKS_PER_BROADCAST}::bigint
    GROUP BY 1
) s
"""

# The planner omits an aggregate on the right of a left join if none of its columns is used.
TRACK_SUMMARY = f"""
CREATE VIEW track_summary AS
SELECT c.slug AS channel, {SHOW} AS show, t.track_no AS track,
    {dominant("o.")} AS emotion,
    t.first_ts, t.last_ts,
    extract(epoch FROM t.last_ts - t.first_ts)::double precision AS seconds,
    coalesce(o.observations, 0)::integer AS observations,
    o.score, o.width_px, o.height_px,
    {listed("o.{0}")},
    b.id AS broadcast_id
FROM face_tracks t
JOIN broadcasts b ON b.id = t.broadcast_id
JOIN channels c ON c.id = b.channel_id
LEFT JOIN LATERAL (
    SELECT count(*) AS observations, avg(score)::real AS score,
        avg(x1 - x0)::real AS width_px, avg(y1 - y0)::real AS height_px,
        {listed("avg(smoothed_{0})::real AS {0}")}
    FROM observations
    WHERE channel_id = b.channel_id AND track_id = t.id
        AND ts >= t.first_ts AND ts <= t.last_ts
) o ON true
"""

COVERAGE = f"""
CREATE VIEW coverage AS
SELECT c.slug AS channel, {SHOW} AS show, b.started_at, b.ended_at, b.status,
    s.first_recorded, s.last_recorded,
    coalesce(s.segments, 0)::integer AS segments,
    coalesce(s.analysed, 0)::integer AS analysed,
    coalesce(s.failed, 0)::integer AS failed,
    coalesce(s.waiting, 0)::integer AS waiting,
    coalesce(s.recorded_s, 0) AS recorded_s,
    coalesce(s.analysed_s, 0) AS analysed_s,
    coalesce(g.gaps, 0)::integer AS gaps,
    coalesce(g.gap_s, 0) AS gap_s,
    g.gap_reasons,
    s.recorded_s / nullif(s.recorded_s + coalesce(g.gap_s, 0), 0) AS recorded_share,
    s.analysed_s / nullif(s.recorded_s, 0) AS analysed_share,
    s.frames, s.median_lag_ms, s.p95_lag_ms, s.start_is_estimated,
    b.id AS broadcast_id
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
LEFT JOIN LATERAL (
    SELECT min(started_at) AS first_recorded, max(ended_at) AS last_recorded,
        count(*) AS segments,
        count(*) FILTER (WHERE status = 'analysed') AS analysed,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'recorded') AS waiting,
        sum(duration_s) AS recorded_s,
        sum(duration_s) FILTER (WHERE status = 'analysed') AS analysed_s,
        sum(frames_analysed) FILTER (WHERE status = 'analysed') AS frames,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY lag_ms) AS median_lag_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY lag_ms) AS p95_lag_ms,
        bool_or(start_is_estimated) AS start_is_estimated
    FROM segments WHERE broadcast_id = b.id
) s ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS gaps,
        extract(epoch FROM sum(ended_at - started_at))::double precision AS gap_s,
        string_agg(DISTINCT why, '; ') AS gap_reasons
    FROM gaps WHERE broadcast_id = b.id
) g ON true
"""

EMOTION_LONG = f"""
CREATE VIEW emotion_long AS
SELECT c.slug AS channel, {SHOW} AS show, m.minute, e.emotion, e.share,
    m.n AS observations,
    b.id AS broadcast_id
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
CROSS JOIN LATERAL (
    VALUES {listed("('{0}', m.{0})")}
) AS e (emotion, share)
WHERE e.share IS NOT NULL
"""

VIEWS = {
    "emotion_seconds": EMOTION_SECONDS,
    "track_summary": TRACK_SUMMARY,
    "coverage": COVERAGE,
    "emotion_long": EMOTION_LONG,
}

COMMENTS = {
    "emotion_seconds": "Mean emotion in each second of each show, over all faces, from raw rows",
    "track_summary": "One row a face of a show: from when to when, and what it showed on average",
    "coverage": "One row a show: what was recorded, what of it was analysed, gaps, and how late",
    "emotion_long": "emotion_timeline with one row an emotion, for charting tools",
}

CHANNEL = "Short name of the channel"
TITLE = "Title of the broadcast, or the channel where it has none"
BROADCAST = "One show has one number, in all views"
STRONGEST = "The strongest of the mean emotions; null where there is none"

COLUMN_COMMENTS = {
    "emotion_seconds": {
        "channel": CHANNEL,
        "show": TITLE,
        "second": "Beginning of the second",
        "emotion": STRONGEST,
        "observations": "Faces seen, counted once for each analysed moment",
        "tracks": "Different faces, by track",
        "broadcast_id": BROADCAST,
        "minute": "Beginning of the minute it is in: ask for a range of these, it is quick",
    },
    "track_summary": {
        "channel": CHANNEL,
        "show": TITLE,
        "track": "The same number is the same face, within one broadcast",
        "emotion": STRONGEST,
        "first_ts": "When the face was first seen",
        "last_ts": "When the face was last seen",
        "seconds": "Between the two",
        "observations": "Moments at which it was seen; 0 where the raw rows are gone",
        "score": "How sure it is a face, mean, 0 to 1",
        "width_px": "Mean width of the face, in pixels of the source",
        "height_px": "Mean height of the face, in pixels of the source",
        "broadcast_id": BROADCAST,
    },
    "coverage": {
        "channel": CHANNEL,
        "show": TITLE,
        "started_at": "When the watch began",
        "ended_at": "When the watch ended; null while it goes on",
        "status": "live, completed, cancelled, failed or interrupted",
        "first_recorded": "Beginning of the first segment, by the source's clock",
        "last_recorded": "End of the last segment, by the source's clock",
        "segments": "Pieces of recording",
        "analysed": "Segments that were analysed",
        "failed": "Segments that could not be analysed",
        "waiting": "Segments that are on disk and not analysed yet",
        "recorded_s": "Seconds recorded",
        "analysed_s": "Seconds analysed",
        "gaps": "Stretches on air that were not recorded",
        "gap_s": "Seconds of those",
        "gap_reasons": "Why, each reason once",
        "recorded_share": "Recorded, of what was recorded or known to be missed, 0 to 1",
        "analysed_share": "Analysed, of what was recorded, 0 to 1",
        "frames": "Pictures that were analysed",
        "median_lag_ms": "From the end of a segment to its rows, half of the segments were quicker",
        "p95_lag_ms": "The same, 95 of 100 segments were quicker",
        "start_is_estimated": "The source gave no clock for at least one segment",
        "broadcast_id": BROADCAST,
    },
    "emotion_long": {
        "channel": CHANNEL,
        "show": TITLE,
        "minute": "Beginning of the minute",
        "emotion": "Which emotion this row is about",
        "share": "Its mean smoothed probability over the minute, 0 to 1",
        "observations": "Faces seen in the minute, counted once for each analysed moment",
        "broadcast_id": BROADCAST,
    },
}

UNKNOWN = """
    IF number IS NULL THEN
        RAISE EXCEPTION 'there is no channel ''%''', coalesce(name, 'null')
            USING HINT = 'SELECT DISTINCT channel FROM show_summary; lists those there are.';
    END IF;
"""

# Whole minutes are read from the minutes: 900 times fewer rows, which outlive the raw ones.
EMOTION_BETWEEN = f"""
CREATE FUNCTION emotion_between(
    channel text, since timestamptz, until timestamptz, bucket interval DEFAULT '1 minute'
)
RETURNS TABLE (
    start timestamptz, emotion text, observations bigint, {listed("{0} real")}
)
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    name text := emotion_between.channel;
    low timestamptz := emotion_between.since;
    high timestamptz := emotion_between.until;
    step interval := emotion_between.bucket;
    number integer := (SELECT id FROM channels WHERE slug = emotion_between.channel);
BEGIN
    {UNKNOWN}
    IF (low < high) IS NOT TRUE OR NOT isfinite(low) OR NOT isfinite(high) THEN
        RAISE EXCEPTION 'since (%) must be before until (%)',
            coalesce(low::text, 'null'), coalesce(high::text, 'null')
            USING HINT = 'Both are needed: emotion_between(channel, since, until, bucket).';
    END IF;
    IF (step > interval '0') IS NOT TRUE
        OR extract(year FROM step) <> 0 OR extract(month FROM step) <> 0
    THEN
        RAISE EXCEPTION 'bucket must be a positive interval without months, not %',
            coalesce(step::text, 'null') USING HINT = 'Such as ''10 s'', ''5 min'' or ''1 day''.';
    END IF;
    IF extract(epoch FROM step) % 60 = 0
        AND low = date_trunc('minute', low, 'UTC') AND high = date_trunc('minute', high, 'UTC')
    THEN
        RETURN QUERY
        SELECT m.start, {dominant("m.")}, m.observations, {listed("m.{0}")}
        FROM (
            SELECT date_bin(step, minute, low) AS start, sum(n)::bigint AS observations,
                {listed("(sum({0} * n) / sum(n) FILTER (WHERE {0} IS NOT NULL))::real AS {0}")}
            FROM emotion_minutes
            WHERE channel_id = number AND minute >= low AND minute < high
            GROUP BY 1
        ) m ORDER BY 1;
    ELSE
        RETURN QUERY
        SELECT o.start, {dominant("o.")}, o.observations, {listed("o.{0}")}
        FROM (
            SELECT date_bin(step, ts, low) AS start, count(*) AS observations,
                {listed("avg(smoothed_{0})::real AS {0}")}
            FROM observations WHERE channel_id = number AND ts >= low AND ts < high
            GROUP BY 1
        ) o ORDER BY 1;
    END IF;
END
$$
"""

# A view is not enough: `WHERE channel = ... ORDER BY ts DESC LIMIT 20` reads and sorts the whole
# channel, because the planner does not know that a slug is one channel. With the channel's id
# the key is scanned backwards, only for the requested rows.
EMOTION_NEWEST = f"""
CREATE FUNCTION emotion_newest(channel text, n integer DEFAULT 20)
RETURNS SETOF emotion_history
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    name text := emotion_newest.channel;
    rows integer := emotion_newest.n;
    number integer := (SELECT id FROM channels WHERE slug = emotion_newest.channel);
    oldest timestamptz;
BEGIN
    {UNKNOWN}
    SELECT min(ts) INTO oldest FROM (
        SELECT ts FROM observations WHERE channel_id = number ORDER BY ts DESC LIMIT rows
    ) newest;
    RETURN QUERY
    SELECT * FROM emotion_history h WHERE h.channel = name AND h.ts >= oldest
    ORDER BY h.ts DESC, h.track LIMIT rows;
END
$$
"""

# With its owner's rights, like the function that creates partitions. Dropping one locks the whole
# table exclusively, so it fails if the lock is not free immediately.
DROP_PARTITION = """
CREATE FUNCTION observations_drop(at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET timezone = 'UTC' SET lock_timeout = '100ms' AS $$
DECLARE
    name text := format('observations_%s', to_char(at AT TIME ZONE 'UTC', 'YYYY_MM'));
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_inherits
        WHERE inhparent = 'observations'::regclass AND inhrelid = to_regclass(name)
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', name);
    RETURN true;
END
$$
"""

FUNCTIONS = {
    "emotion_between(text, timestamptz, timestamptz, interval)": EMOTION_BETWEEN,
    "emotion_newest(text, integer)": EMOTION_NEWEST,
    "observations_drop(timestamptz)": DROP_PARTITION,
}

FUNCTION_COMMENTS = {
    "emotion_between(text, timestamptz, timestamptz, interval)": (
        "Mean emotion of a channel from since to before until, in buckets that begin at since; "
        "whole minutes come from the minutes, anything finer from raw rows"
    ),
    "emotion_newest(text, integer)": "The newest rows of emotion_history of a channel",
    "observations_drop(timestamptz)": (
        "Drops the partition of observations for the month of this time; false if there is none"
    ),
}


def quoted(words: str) -> str:
    """Return a string literal."""
    return "'" + words.replace("'", "''") + "'"


def current_schema() -> str:
    """Return the schema of the tables."""
    if op.get_context().as_sql:
        return "public"
    return str(op.get_bind().scalar(sa.text("SELECT current_schema()")))


def upgrade() -> None:
    """Apply."""
    for name, view in VIEWS.items():
        op.execute(view)
        op.execute(f"COMMENT ON VIEW {name} IS {quoted(COMMENTS[name])}")
        for column, meaning in COLUMN_COMMENTS[name].items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS {quoted(meaning)}")
    for name in ("emotion_seconds", "track_summary"):
        for emotion in EMOTIONS:
            op.execute(
                f"COMMENT ON COLUMN {name}.{emotion} IS "
                "'Smoothed probability, mean, 0 to 1; null where the network can''t tell'"
            )
    schema = op.get_context().dialect.identifier_preparer.quote(current_schema())
    for name, function in FUNCTIONS.items():
        op.execute(function)
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"COMMENT ON FUNCTION {name} IS {quoted(FUNCTION_COMMENTS[name])}")


def downgrade() -> None:
    """Undo."""
    for name in reversed(tuple(FUNCTIONS)):
        op.execute(f"DROP FUNCTION {name}")
    for name in reversed(tuple(VIEWS)):
        op.execute(f"DROP VIEW {name}")
