"""The first tables, the function that makes partitions, and the views.

Revision ID: 6b1f0c2d9a47
Revises:
Create Date: 2026-11-22 15:00:00
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "6b1f0c2d9a47"
down_revision = None
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


def columns(prefix: str = "") -> list[sa.Column[float]]:
    """Return one column per emotion."""
    return [sa.Column(f"{prefix}{emotion}", sa.REAL(), nullable=True) for emotion in EMOTIONS]


def time(name: str, *, nullable: bool = False, comment: str | None = None) -> sa.Column[datetime]:
    """Return a column of instants."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def make_tables() -> None:
    """Create the tables."""
    op.create_table(
        "channels",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False, comment="Short name, as in commands"),
        sa.Column("url", sa.String(), nullable=False, comment="Page or playlist, as last used"),
        sa.CheckConstraint("slug <> ''", name=op.f("channels_slug_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("channels_pkey")),
        sa.UniqueConstraint("slug", name=op.f("channels_slug_key")),
        comment="What is watched, again and again",
    )
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        time("started_at"),
        time("planned_end", nullable=True),
        time("ended_at", nullable=True),
        sa.Column("source_id", sa.String(), nullable=True, comment="The site's name of the video"),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("flow_run_id", sa.String(), nullable=True, comment="Prefect's flow run"),
        sa.Column("status", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('live', 'completed', 'cancelled', 'failed', 'interrupted')",
            name=op.f("broadcasts_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("broadcasts_channel_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("broadcasts_pkey")),
        sa.UniqueConstraint(
            "channel_id", "started_at", name=op.f("broadcasts_channel_id_started_at_key")
        ),
        comment="One show: one watch of a channel, or one recorded file",
    )
    op.create_table(
        "segments",
        sa.Column("channel_id", sa.Integer(), nullable=False),
        time("started_at", comment="By the source's clock"),
        time("ended_at", comment="Start and duration; not included"),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column(
            "sequence", sa.Integer(), nullable=False, comment="Counts the segments of a broadcast"
        ),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column(
            "offset_s",
            sa.Double(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Where in the file it begins",
        ),
        sa.Column(
            "start_is_estimated",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="The source gave no clock",
        ),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.Column(
            "status", sa.String(), nullable=False, comment="recorded: on disk, not analysed yet"
        ),
        sa.Column("frames_analysed", sa.Integer(), nullable=True),
        sa.Column("analysed_fps", sa.Double(), nullable=True),
        sa.Column("lag_ms", sa.Integer(), nullable=True, comment="From end of segment to its rows"),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column(
            "tracker_state",
            postgresql.JSONB(),
            nullable=True,
            comment="To go on with the same tracks",
        ),
        sa.Column("error", sa.String(), nullable=True),
        sa.CheckConstraint("ended_at > started_at", name=op.f("segments_order_check")),
        sa.CheckConstraint(
            "status IN ('recorded', 'analysed', 'failed')", name=op.f("segments_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("segments_broadcast_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("segments_channel_id_fkey")
        ),
        sa.PrimaryKeyConstraint("channel_id", "started_at", name=op.f("segments_pkey")),
        comment="A piece of recording of a few seconds, and how its analysis went",
    )
    op.create_index(
        op.f("segments_broadcast_id_started_at_idx"), "segments", ["broadcast_id", "started_at"]
    )
    op.create_table(
        "gaps",
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        time("started_at"),
        time("ended_at"),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.CheckConstraint("ended_at >= started_at", name=op.f("gaps_order_check")),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("gaps_broadcast_id_fkey")
        ),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], name=op.f("gaps_channel_id_fkey")),
        sa.PrimaryKeyConstraint("broadcast_id", "started_at", name=op.f("gaps_pkey")),
        comment="A stretch of a broadcast that no segment covers, and why",
    )
    op.create_index(op.f("gaps_channel_id_started_at_idx"), "gaps", ["channel_id", "started_at"])
    op.create_table(
        "face_tracks",
        sa.Column("id", sa.BigInteger(), nullable=False, comment="From broadcast_id and track_no"),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column("track_no", sa.Integer(), nullable=False, comment="Within the broadcast, from 1"),
        time("first_ts", comment="Of its first observation"),
        time("last_ts", comment="Of its last observation"),
        sa.CheckConstraint(
            f"id = broadcast_id * {TRACKS_PER_BROADCAST}::bigint + track_no",
            name=op.f("face_tracks_id_check"),
        ),
        sa.CheckConstraint(
            f"track_no BETWEEN 1 AND {TRACKS_PER_BROADCAST - 1}",
            name=op.f("face_tracks_track_no_check"),
        ),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("face_tracks_broadcast_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("face_tracks_pkey")),
        sa.UniqueConstraint(
            "broadcast_id", "track_no", name=op.f("face_tracks_broadcast_id_track_no_key")
        ),
        comment="One face, followed through one broadcast until it was lost",
    )
    op.create_table(
        "observations",
        time("ts", comment="By the source's clock"),
        sa.Column(
            "track_id",
            sa.BigInteger(),
            nullable=False,
            comment="face_tracks.id, tells the broadcast",
        ),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("x0", sa.REAL(), nullable=False, comment="Left, in pixels of the source"),
        sa.Column("y0", sa.REAL(), nullable=False, comment="Top, in pixels of the source"),
        sa.Column("x1", sa.REAL(), nullable=False, comment="Right, in pixels of the source"),
        sa.Column("y1", sa.REAL(), nullable=False, comment="Bottom, in pixels of the source"),
        sa.Column("score", sa.REAL(), nullable=False, comment="How sure it is a face, 0 to 1"),
        *columns(),
        *columns("smoothed_"),
        sa.PrimaryKeyConstraint("channel_id", "ts", "track_id", name=op.f("observations_pkey")),
        comment="One face at one time: box, emotions as the network gave them, and smoothed",
        postgresql_partition_by="RANGE (ts)",
    )
    op.create_table(
        "emotion_minutes",
        sa.Column("channel_id", sa.Integer(), nullable=False),
        time("minute", comment="Its beginning"),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, comment="Observations"),
        sa.Column("tracks", sa.Integer(), nullable=False, comment="Distinct tracks"),
        *columns(),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("emotion_minutes_broadcast_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("emotion_minutes_channel_id_fkey")
        ),
        sa.PrimaryKeyConstraint(
            "channel_id", "minute", "broadcast_id", name=op.f("emotion_minutes_pkey")
        ),
        comment="Mean of each smoothed emotion in each minute, computed from observations",
    )
    op.create_index(
        op.f("emotion_minutes_broadcast_id_minute_idx"),
        "emotion_minutes",
        ["broadcast_id", "minute"],
    )


PARTITION = """
CREATE FUNCTION observations_partition(at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET timezone = 'UTC' AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name text := format('observations_%s', to_char(month, 'YYYY_MM'));
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN name;
    END IF;
    -- Only one maker at a time; neither readers nor writers wait for this lock. CREATE TABLE ...
    -- PARTITION OF would shut both out until its transaction ends, so: a table apart, attached.
    LOCK TABLE ONLY observations IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE observations INCLUDING ALL)', name);
        EXECUTE format(
            'ALTER TABLE observations ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name,
            month AT TIME ZONE 'UTC',
            (month + interval '1 month') AT TIME ZONE 'UTC'
        );
    END IF;
    RETURN name;
END
$$
"""


def dominant(prefix: str = "") -> str:
    """Return the SQL expression for the strongest emotion; null without values."""
    strongest = f"greatest({', '.join(f'{prefix}{emotion}' for emotion in EMOTIONS)})"
    whens = " ".join(f"WHEN {prefix}{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"CASE {strongest} {whens} END"


def listed(pattern: str) -> str:
    """Return the pattern once for each emotion, with commas."""
    return ", ".join(pattern.format(emotion) for emotion in EMOTIONS)


SHOW = "coalesce(nullif(b.title, ''), c.slug)"

EMOTION_HISTORY = f"""
CREATE VIEW emotion_history AS
SELECT c.slug AS channel, {SHOW} AS show, o.ts,
    (o.track_id % {TRACKS_PER_BROADCAST})::integer AS track,
    {dominant("o.smoothed_")} AS emotion,
    o.score, o.x0, o.y0, o.x1, o.y1,
    {listed("o.smoothed_{0} AS {0}")},
    b.id AS broadcast_id
FROM observations o
JOIN channels c ON c.id = o.channel_id
JOIN broadcasts b ON b.id = (o.track_id / {TRACKS_PER_BROADCAST})::integer
"""

EMOTION_TIMELINE = f"""
CREATE VIEW emotion_timeline AS
SELECT c.slug AS channel, {SHOW} AS show, m.minute,
    {dominant("m.")} AS emotion,
    m.n AS observations, m.tracks,
    {listed("m.{0}")},
    b.id AS broadcast_id
FROM emotion_minutes m
JOIN channels c ON c.id = m.channel_id
JOIN broadcasts b ON b.id = m.broadcast_id
"""

SHOW_SUMMARY = f"""
CREATE VIEW show_summary AS
SELECT c.slug AS channel, {SHOW} AS show, b.started_at, b.ended_at, b.status,
    {dominant("m.")} AS emotion,
    m.observations, t.tracks, s.segments, s.analysed, s.failed, s.recorded_s,
    g.gaps, g.gap_s, s.median_lag_ms, s.p95_lag_ms,
    {listed("m.{0}")},
    b.id AS broadcast_id
FROM broadcasts b
JOIN channels c ON c.id = b.channel_id
CROSS JOIN LATERAL (
    SELECT count(*) AS segments,
        count(*) FILTER (WHERE status = 'analysed') AS analysed,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        coalesce(sum(duration_s), 0) AS recorded_s,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY lag_ms) AS median_lag_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY lag_ms) AS p95_lag_ms
    FROM segments WHERE broadcast_id = b.id
) s
CROSS JOIN LATERAL (
    SELECT count(*) AS gaps,
        coalesce(extract(epoch FROM sum(ended_at - started_at)), 0)::double precision AS gap_s
    FROM gaps WHERE broadcast_id = b.id
) g
CROSS JOIN LATERAL (
    SELECT count(*) AS tracks FROM face_tracks WHERE broadcast_id = b.id
) t
CROSS JOIN LATERAL (
    SELECT coalesce(sum(n), 0)::bigint AS observations,
        {listed("(sum({0} * n) / sum(n) FILTER (WHERE {0} IS NOT NULL))::real AS {0}")}
    FROM emotion_minutes WHERE broadcast_id = b.id
) m
"""

COMMENTS = {
    "emotion_history": "Every face at every analysed moment: where it was and what it showed",
    "emotion_timeline": "Mean emotion in each minute of each show, over all faces",
    "show_summary": "One row a show: how it went, what was recorded, and its mean emotion",
}

COLUMN_COMMENTS = {
    "emotion_history": {
        "channel": "Short name of the channel",
        "show": "Title of the broadcast, or the channel where it has none",
        "ts": "When, by the source's clock",
        "track": "The same number is the same face, within one broadcast",
        "emotion": "The strongest of the smoothed emotions; null where there is none",
        "score": "How sure it is a face, 0 to 1",
        "x0": "Left edge of the face, in pixels of the source",
        "y0": "Top edge of the face, in pixels of the source",
        "x1": "Right edge of the face, in pixels of the source",
        "y1": "Bottom edge of the face, in pixels of the source",
    },
    "emotion_timeline": {
        "show": "Title of the broadcast, or the channel where it has none",
        "minute": "Beginning of the minute",
        "emotion": "The strongest of the minute's mean emotions",
        "observations": "Faces seen, counted once for each analysed moment",
        "tracks": "Different faces, by track",
    },
    "show_summary": {
        "show": "Title of the broadcast, or the channel where it has none",
        "emotion": "The strongest of the show's mean emotions",
        "recorded_s": "Seconds on disk",
        "gap_s": "Seconds on air that were not recorded",
        "median_lag_ms": "From the end of a segment to its rows, half of the segments were quicker",
        "p95_lag_ms": "The same, 95 of 100 segments were quicker",
    },
}


def upgrade() -> None:
    """Apply."""
    make_tables()
    op.execute(PARTITION)
    # The function runs with its owner's rights, so that a writer needs no right to create tables;
    # the fixed search_path ensures that it uses our tables.
    schema = op.get_context().dialect.identifier_preparer.quote(current_schema())
    op.execute(
        f"ALTER FUNCTION observations_partition(timestamptz) SET search_path = {schema}, pg_temp"
    )
    op.execute("REVOKE ALL ON FUNCTION observations_partition(timestamptz) FROM PUBLIC")
    op.execute(
        "COMMENT ON FUNCTION observations_partition(timestamptz) IS "
        "'Makes the partition of observations for the month of this time, and tells its name'"
    )
    for view in (EMOTION_HISTORY, EMOTION_TIMELINE, SHOW_SUMMARY):
        op.execute(view)
    for name, words in COMMENTS.items():
        op.execute(f"COMMENT ON VIEW {name} IS {quoted(words)}")
        for column, meaning in COLUMN_COMMENTS[name].items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS {quoted(meaning)}")
        for emotion in EMOTIONS:
            op.execute(
                f"COMMENT ON COLUMN {name}.{emotion} IS "
                "'Smoothed probability, 0 to 1; null where the network can''t tell'"
            )


def quoted(words: str) -> str:
    """Return a string literal."""
    return "'" + words.replace("'", "''") + "'"


def current_schema() -> str:
    """Return the schema of the tables."""
    if op.get_context().as_sql:
        return "public"
    return str(op.get_bind().scalar(sa.text("SELECT current_schema()")))


def downgrade() -> None:
    """Undo."""
    for view in reversed(tuple(COMMENTS)):
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP FUNCTION observations_partition(timestamptz)")
    for table in (
        "emotion_minutes",
        "observations",
        "face_tracks",
        "gaps",
        "segments",
        "broadcasts",
        "channels",
    ):
        op.drop_table(table)
