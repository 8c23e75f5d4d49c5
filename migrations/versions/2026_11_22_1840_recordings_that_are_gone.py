"""A segment whose file was deleted keeps its row, and its path is null.

Revision ID: 3c7f91b04e6d
Revises: 9d3e5a7c1b28
Create Date: 2026-11-22 18:40:00
"""

import sqlalchemy as sa
from alembic import op

revision = "3c7f91b04e6d"
down_revision = "9d3e5a7c1b28"
branch_labels = None
depends_on = None

INDEX = "segments_channel_id_started_at_on_disk_idx"


def upgrade() -> None:
    """Apply, with an index on the few rows that have a file."""
    op.alter_column("segments", "path", comment="Of its file; null: that was deleted")
    op.create_index(
        INDEX,
        "segments",
        ["channel_id", "started_at"],
        postgresql_where=sa.text("path IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo; null paths stay null."""
    op.drop_index(INDEX, "segments")
    op.alter_column("segments", "path", comment=None)
