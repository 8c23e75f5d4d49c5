"""Which segments are advertisements, and which files a segment needs to be decoded.

Revision ID: 7d14c3e8a602
Revises: 7c41d9e0b6f2
Create Date: 2026-11-30 01:40:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "7d14c3e8a602"
down_revision = "7c41d9e0b6f2"
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

INDEX = "segments_channel_id_started_at_ads_idx"

SHOW = "coalesce(nullif(b.title, ''), c.slug)"

NO_AD = (
    "NOT EXISTS (SELECT FROM segments a WHERE a.channel_id = o.channel_id AND a.is_ad"
    " AND a.started_at <= o.ts AND a.ended_at > o.ts)"
)

ADVERTISEMENTS = f"""
CREATE VIEW advertisements AS
SELECT c.slug AS channel, {SHOW} AS show, s.started_at, s.ended_at, s.duration_s AS seconds,
    b.id AS broadcast_id
FROM segments s
JOIN channels c ON c.id = s.channel_id
JOIN broadcasts b ON b.id = s.broadcast_id
WHERE s.is_ad
"""

# For buckets smaller than minutes, which are read from raw rows.
RAW = "FROM observations WHERE channel_id = number AND ts >= low AND ts < high"
RAW_NO_AD = RAW.replace("observations", "observations o", 1) + f" AND {NO_AD}"

BETWEEN = """
DO $do$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('emotion_between(text,timestamptz,timestamptz,interval)'::regprocedure),
        '{before}', '{after}'
    );
END
$do$
"""

COLUMN_COMMENTS = {
    "channel": "Short name of the channel",
    "show": "Title of the broadcast, or the channel where it has none",
    "started_at": "When it began, by the source's clock",
    "ended_at": "When it ended; not included",
    "seconds": "Between the two",
    "broadcast_id": "One show has one number, in all views",
}


def dominant(prefix: str) -> str:
    """Return the SQL expression for the strongest emotion; null without values."""
    strongest = f"greatest({', '.join(f'{prefix}{emotion}' for emotion in EMOTIONS)})"
    whens = " ".join(f"WHEN {prefix}{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"CASE {strongest} {whens} END"


def listed(pattern: str) -> str:
    """Return the pattern once for each emotion, with commas."""
    return ", ".join(pattern.format(emotion) for emotion in EMOTIONS)


def seconds(condition: str) -> str:
    """Return the statement that creates `emotion_seconds`, with this condition on observations."""
    return f"""
CREATE OR REPLACE VIEW emotion_seconds AS
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
        {condition}
    GROUP BY 1
) s
"""


def quoted(words: str) -> str:
    """Return a string literal."""
    return "'" + words.replace("'", "''") + "'"


def upgrade() -> None:
    """Apply: null in existing rows."""
    op.add_column(
        "segments",
        sa.Column(
            "is_ad",
            sa.Boolean(),
            nullable=True,
            comment="Whether the source says that it is an advertisement; null: it says nothing",
        ),
    )
    op.add_column(
        "segments",
        sa.Column(
            "needs",
            postgresql.ARRAY(sa.String()),
            nullable=True,
            comment="Files beside its own that are decoded first: it begins amid pictures",
        ),
    )
    op.create_index(
        INDEX, "segments", ["channel_id", "started_at"], postgresql_where=sa.text("is_ad")
    )
    op.execute(ADVERTISEMENTS)
    op.execute("COMMENT ON VIEW advertisements IS 'Segments that the source calls advertisements'")
    for column, meaning in COLUMN_COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN advertisements.{column} IS {quoted(meaning)}")
    op.execute(seconds(f"AND {NO_AD}"))
    op.execute(BETWEEN.format(before=RAW, after=RAW_NO_AD))


def downgrade() -> None:
    """Undo; minutes computed without advertisements stay unchanged."""
    op.execute(BETWEEN.format(before=RAW_NO_AD, after=RAW))
    op.execute(seconds(""))
    op.execute("DROP VIEW advertisements")
    op.drop_index(INDEX, "segments")
    op.drop_column("segments", "needs")
    op.drop_column("segments", "is_ad")
