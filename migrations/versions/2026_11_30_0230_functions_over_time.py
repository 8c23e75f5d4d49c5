"""Functions: means over time (local days), the newest rows, and rows around a time.

Revision ID: e93b7d4c8f26
Revises: d82f6c3a7e15
Create Date: 2026-11-30 02:30:00
"""

import sqlalchemy as sa
from alembic import op

revision = "e93b7d4c8f26"
down_revision = "d82f6c3a7e15"
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


NO_AD = (
    "NOT EXISTS (SELECT FROM segments a WHERE a.channel_id = o.channel_id AND a.is_ad"
    " AND a.started_at <= o.ts AND a.ended_at > o.ts)"
)


def dominant(prefix: str = "") -> str:
    """Return the expression that names the strongest emotion; null where there is none."""
    strongest = f"greatest({', '.join(f'{prefix}{emotion}' for emotion in EMOTIONS)})"
    whens = " ".join(f"WHEN {prefix}{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"CASE {strongest} {whens} END"


def listed(pattern: str) -> str:
    """Return the pattern once for each emotion, with commas."""
    return ", ".join(pattern.format(emotion) for emotion in EMOTIONS)


UNKNOWN = """
    IF number IS NULL THEN
        RAISE EXCEPTION 'there is no channel ''%''', coalesce(name, 'null')
            USING HINT = 'SELECT DISTINCT channel FROM show_summary; lists those there are.';
    END IF;
"""

KNOWN_S = " + ".join(f"x.{emotion}_s" for emotion in EMOTIONS)

ANSWER = f"""
        SELECT x.start, {dominant("x.")}, x.observations, {listed("x.{0}")}, x.seconds,
            {listed(f"(x.{{0}}_s / nullif({KNOWN_S}, 0)::real)::real")}, x.mixed
"""

STRONGEST_S = listed(f"count(*) FILTER (WHERE ({dominant()}) = '{{0}}') AS {{0}}_s")

WEIGHTED = listed(
    "(sum({0} * seconds::double precision)"
    " / nullif(sum(seconds) FILTER (WHERE {0} IS NOT NULL), 0))::real AS {0}"
)

# Buckets of whole minutes use the table of minutes: it has 900 times fewer rows, and stays when the
# raw rows are deleted. Buckets of whole seconds use the table of seconds. Days are local days: of
# 23 or 25 hours when the clock changes.
EMOTION_BETWEEN = f"""
CREATE FUNCTION emotion_between(
    channel text, since timestamptz, until timestamptz, bucket interval DEFAULT '1 minute',
    zone text DEFAULT current_setting('TimeZone')
)
RETURNS TABLE (
    start timestamptz, emotion text, observations bigint, {listed("{0} real")},
    seconds bigint, {listed("{0}_time_share real")}, mixed boolean
)
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    name text := emotion_between.channel;
    low timestamptz := emotion_between.since;
    high timestamptz := emotion_between.until;
    step interval := emotion_between.bucket;
    place text := emotion_between.zone;
    number integer := (SELECT id FROM channels WHERE slug = emotion_between.channel);
    days boolean;
    several boolean;
BEGIN
    {UNKNOWN}
    IF (low < high) IS NOT TRUE OR NOT isfinite(low) OR NOT isfinite(high) THEN
        RAISE EXCEPTION 'since (%) must be before until (%)',
            coalesce(low::text, 'null'), coalesce(high::text, 'null')
            USING HINT = 'Both are needed: emotion_between(channel, since, until, bucket).';
    END IF;
    IF (step > interval '0') IS NOT TRUE OR NOT isfinite(step)
        OR extract(year FROM step) <> 0 OR extract(month FROM step) <> 0
    THEN
        RAISE EXCEPTION 'bucket must be a positive interval without months, not %',
            coalesce(step::text, 'null') USING HINT = 'Such as ''10 s'', ''5 min'' or ''1 day''.';
    END IF;
    BEGIN
        IF (low AT TIME ZONE place) IS NULL THEN
            RAISE invalid_parameter_value;
        END IF;
    EXCEPTION WHEN invalid_parameter_value THEN
        RAISE EXCEPTION 'there is no time zone ''%''', coalesce(place, 'null')
            USING HINT = 'Such as ''Europe/Berlin'': SELECT name FROM pg_timezone_names;';
    END;
    days := extract(epoch FROM step) % 86400 = 0;
    IF extract(epoch FROM step) % 60 = 0
        AND low = date_trunc('minute', low, 'UTC') AND high = date_trunc('minute', high, 'UTC')
    THEN
        RETURN QUERY {ANSWER}
        FROM (
            SELECT CASE WHEN days THEN date_bin(step, minute AT TIME ZONE place,
                    low AT TIME ZONE place) AT TIME ZONE place
                ELSE date_bin(step, minute, low) END AS start,
                sum(n)::bigint AS observations, sum(seconds)::bigint AS seconds,
                {WEIGHTED}, {listed("sum({0}_s) AS {0}_s")},
                count(DISTINCT models) > 1 OR bool_or(models LIKE '%, %')
                    OR min(low_fps) < max(high_fps) AS mixed
            FROM emotion_minutes
            WHERE channel_id = number AND minute >= low AND minute < high
            GROUP BY 1
        ) x ORDER BY 1;
        RETURN;
    END IF;
    SELECT count(DISTINCT model) > 1 OR min(analysed_fps) < max(analysed_fps) INTO several
    FROM segments WHERE channel_id = number AND status = 'analysed' AND ended_at > low
        AND started_at < high AND started_at > low - interval '10 minutes';
    IF extract(epoch FROM step) % 1 = 0
        AND low = date_trunc('second', low, 'UTC') AND high = date_trunc('second', high, 'UTC')
    THEN
        RETURN QUERY {ANSWER}
        FROM (
            SELECT CASE WHEN days THEN date_bin(step, second AT TIME ZONE place,
                    low AT TIME ZONE place) AT TIME ZONE place
                ELSE date_bin(step, second, low) END AS start,
                sum(n)::bigint AS observations, count(*) AS seconds,
                {listed("avg({0})::real AS {0}")}, {STRONGEST_S}, several AS mixed
            FROM seconds
            WHERE channel_id = number AND n > 0 AND second >= low AND second < high
            GROUP BY 1
        ) x ORDER BY 1;
    ELSE
        RETURN QUERY {ANSWER}
        FROM (
            SELECT CASE WHEN days THEN date_bin(step, ts AT TIME ZONE place,
                    low AT TIME ZONE place) AT TIME ZONE place
                ELSE date_bin(step, ts, low) END AS start,
                sum(n)::bigint AS observations,
                count(DISTINCT date_trunc('second', ts, 'UTC')) AS seconds,
                {listed("avg({0})::real AS {0}")}, {STRONGEST_S}, several AS mixed
            FROM (
                SELECT ts, count(*) AS n, {listed("avg(smoothed_{0})::real AS {0}")}
                FROM observations o
                WHERE channel_id = number AND ts >= low AND ts < high AND {NO_AD}
                GROUP BY ts
            ) o
            GROUP BY 1
        ) x ORDER BY 1;
    END IF;
END
$$
"""

# A function, because `WHERE channel = ... ORDER BY ts DESC LIMIT 20` on the view sorts the whole
# channel: the planner does not know that one slug is one channel. With the channel's id the primary
# key is read backwards, only for the rows needed.
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

# In this form the planner can inline it and computes only the columns that the query uses. With
# OFFSET 0 each row of a table of times is one look-up by the key; without it, the table would be
# joined with all rows.
EMOTION_AROUND = """
CREATE FUNCTION emotion_around(
    channel text, at timestamptz, before interval DEFAULT '5 s', after interval DEFAULT '5 s'
)
RETURNS SETOF emotion_history LANGUAGE sql STABLE ROWS 150
BEGIN ATOMIC
    SELECT * FROM emotion_history h
    WHERE h.channel = emotion_around.channel
        AND h.ts >= emotion_around.at - emotion_around.before
        AND h.ts < emotion_around.at + emotion_around.after
    OFFSET 0;
END
"""

FUNCTIONS = {
    "emotion_between(text, timestamptz, timestamptz, interval, text)": EMOTION_BETWEEN,
    "emotion_newest(text, integer)": EMOTION_NEWEST,
    "emotion_around(text, timestamptz, interval, interval)": EMOTION_AROUND,
}

COMMENTS = {
    "emotion_between(text, timestamptz, timestamptz, interval, text)": (
        "Mean emotion of a channel over time from since to before until, in buckets that begin at "
        "since; whole days by the clock of zone, the session's own if not given"
    ),
    "emotion_newest(text, integer)": "The newest rows of emotion_history of a channel",
    "emotion_around(text, timestamptz, interval, interval)": (
        "The rows of emotion_history of a channel from before a moment to after it; quick also "
        "beside a table of many moments, by CROSS JOIN LATERAL"
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
    """Create the functions; roles that can read the views can call them."""
    schema = op.get_context().dialect.identifier_preparer.quote(current_schema())
    for name, function in FUNCTIONS.items():
        op.execute(function)
        if function != EMOTION_AROUND:
            op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"COMMENT ON FUNCTION {name} IS {quoted(COMMENTS[name])}")
    for role in ("showmood_analyst", "showmood_writer"):
        op.execute(f"""
DO $$
BEGIN
    IF (SELECT has_table_privilege(oid, 'coverage', 'SELECT') FROM pg_roles
        WHERE rolname = '{role}')
    THEN
        GRANT EXECUTE ON FUNCTION {", ".join(FUNCTIONS)} TO {role};
    END IF;
END $$
""")


def downgrade() -> None:
    """Drop the functions."""
    for name in reversed(tuple(FUNCTIONS)):
        op.execute(f"DROP FUNCTION {name}")
