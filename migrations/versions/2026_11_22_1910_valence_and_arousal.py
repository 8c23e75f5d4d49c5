"""Valence and arousal of a face, if the network has them.

Revision ID: 5e8a2d90c174
Revises: 3c7f91b04e6d
Create Date: 2026-11-22 19:10:00
"""

import sqlalchemy as sa
from alembic import op

revision = "5e8a2d90c174"
down_revision = "3c7f91b04e6d"
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

AFFECT = {
    "valence": "How pleasant, -1 to 1; null where the network can't tell",
    "arousal": "How aroused, -1 to 1; null where the network can't tell",
}


def history(*more: str) -> str:
    """Return the query of `emotion_history`, with these columns of observations appended."""
    smoothed = [f"o.smoothed_{emotion}" for emotion in EMOTIONS]
    whens = " ".join(f"WHEN o.smoothed_{emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    return f"""
SELECT c.slug AS channel, coalesce(nullif(b.title, ''), c.slug) AS show, o.ts,
    (o.track_id % {TRACKS_PER_BROADCAST})::integer AS track,
    CASE greatest({", ".join(smoothed)}) {whens} END AS emotion,
    o.score, o.x0, o.y0, o.x1, o.y1,
    {", ".join(f"o.smoothed_{emotion} AS {emotion}" for emotion in EMOTIONS)},
    b.id AS broadcast_id{"".join(f", o.{name}" for name in more)}
FROM observations o
JOIN channels c ON c.id = o.channel_id
JOIN broadcasts b ON b.id = (o.track_id / {TRACKS_PER_BROADCAST})::integer
"""


# Columns of a view can't be removed, and `emotion_newest` returns its rows: all three are created
# again, with their comments.
NARROW = f"""
DO $do$
DECLARE
    newest text := pg_get_functiondef('emotion_newest(text, integer)'::regprocedure);
    meaning text := obj_description('emotion_newest(text, integer)'::regprocedure);
    said text[] := ARRAY(
        SELECT format('COMMENT ON COLUMN emotion_history.%I IS %L', attname,
            col_description(attrelid, attnum))
        FROM pg_attribute WHERE attrelid = 'emotion_history'::regclass AND attnum > 0
        AND col_description(attrelid, attnum) IS NOT NULL
        AND attname NOT IN ('valence', 'arousal')
    ) || format('COMMENT ON VIEW emotion_history IS %L',
        obj_description('emotion_history'::regclass));
    one text;
BEGIN
    DROP FUNCTION emotion_newest(text, integer);
    DROP VIEW emotion_history;
    CREATE VIEW emotion_history AS {history()};
    FOREACH one IN ARRAY said LOOP
        EXECUTE one;
    END LOOP;
    EXECUTE newest;
    REVOKE ALL ON FUNCTION emotion_newest(text, integer) FROM PUBLIC;
    EXECUTE format('COMMENT ON FUNCTION emotion_newest(text, integer) IS %L', meaning);
END
$do$
"""


def upgrade() -> None:
    """Apply: appended columns, null in existing rows."""
    for name, meaning in AFFECT.items():
        op.add_column("observations", sa.Column(name, sa.REAL, nullable=True, comment=meaning))
    op.execute(f"CREATE OR REPLACE VIEW emotion_history AS {history(*AFFECT)}")
    for name, meaning in AFFECT.items():
        words = meaning.replace("'", "''")
        op.execute(f"COMMENT ON COLUMN emotion_history.{name} IS '{words}'")


def downgrade() -> None:
    """Undo. Grant the roles their rights again (`showmood db upgrade --roles`)."""
    op.execute(NARROW)
    for name in reversed(AFFECT):
        op.drop_column("observations", name)
