"""show_segments: how each segment was analysed, so that reports need only views.

Revision ID: d7c24b81e05f
Revises: a5f07c93d16e
Create Date: 2026-11-30 02:50:00
"""

from alembic import op

revision = "d7c24b81e05f"
down_revision = "a5f07c93d16e"
branch_labels = None
depends_on = None

COMMENTS = {
    "frames": "Pictures that were analysed; null: not analysed yet",
    "fps": "Looks a second, as asked for or as the load allowed",
    "model": "Names of the two networks; +centred: smoothed by the past and the future",
}


def query(more: str = "") -> str:
    """Return the view's query, with additional columns at the end."""
    return f"""
SELECT c.slug AS channel, s.started_at, s.ended_at, s.sequence, s.duration_s, s.offset_s,
    s.start_is_estimated, s.width_px, s.height_px, s.status, s.lag_ms, s.path, s.broadcast_id,
    s.machine, s.is_ad{more}
FROM segments s JOIN channels c ON c.id = s.channel_id
"""


# Columns of a view cannot be removed, so it is created again, with its existing comments.
NARROW = f"""
DO $do$
DECLARE
    said text[] := ARRAY(
        SELECT format('COMMENT ON COLUMN show_segments.%I IS %L', attname,
            col_description(attrelid, attnum))
        FROM pg_attribute WHERE attrelid = 'show_segments'::regclass AND attnum > 0
        AND attname NOT IN ('frames', 'fps', 'model')
        AND col_description(attrelid, attnum) IS NOT NULL
    ) || format('COMMENT ON VIEW show_segments IS %L', obj_description('show_segments'::regclass));
    one text;
BEGIN
    DROP VIEW show_segments;
    CREATE VIEW show_segments AS {query()};
    FOREACH one IN ARRAY said LOOP
        EXECUTE one;
    END LOOP;
END
$do$
"""


def upgrade() -> None:
    """Add the columns."""
    more = ", s.frames_analysed AS frames, s.analysed_fps::real AS fps, s.model"
    op.execute(f"CREATE OR REPLACE VIEW show_segments AS {query(more)}")
    for name, words in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN show_segments.{name} IS '{words}'")


def downgrade() -> None:
    """Remove them. Roles then need their rights again: `showmood db upgrade --roles`."""
    op.execute(NARROW)
