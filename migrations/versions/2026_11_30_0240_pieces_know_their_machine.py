"""show_segments: which machine has the file, and whether the segment is an advertisement.

Revision ID: a5f07c93d16e
Revises: e93b7d4c8f26
Create Date: 2026-11-30 02:40:00
"""

from alembic import op

revision = "a5f07c93d16e"
down_revision = "e93b7d4c8f26"
branch_labels = None
depends_on = None


def query(more: str = "") -> str:
    """Return the view's query, with additional columns at the end."""
    return f"""
SELECT c.slug AS channel, s.started_at, s.ended_at, s.sequence, s.duration_s, s.offset_s,
    s.start_is_estimated, s.width_px, s.height_px, s.status, s.lag_ms, s.path, s.broadcast_id{more}
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
        AND attname NOT IN ('machine', 'is_ad') AND col_description(attrelid, attnum) IS NOT NULL
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
    op.execute(f"CREATE OR REPLACE VIEW show_segments AS {query(', s.machine, s.is_ad')}")
    op.execute("COMMENT ON COLUMN show_segments.machine IS 'Which has its file; null: unknown'")
    op.execute("COMMENT ON COLUMN show_segments.is_ad IS 'An advertisement; null: unknown'")


def downgrade() -> None:
    """Remove them. Roles then need their rights again: `showmood db upgrade --roles`."""
    op.execute(NARROW)
