"""The machine and the object store's copy of a segment, and the table of machines.

Revision ID: 3b9f5c27a1d8
Revises: 7d14c3e8a602
Create Date: 2026-11-30 02:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "3b9f5c27a1d8"
down_revision = "7d14c3e8a602"
branch_labels = None
depends_on = None

ON_DISK = "segments_channel_id_started_at_on_disk_idx"
THERE = "segments_channel_id_started_at_there_idx"


def upgrade() -> None:
    """Apply: null in existing rows."""
    for name, kind, meaning in (
        ("machine", sa.String(), "Whose disk path is on; null: not known"),
        ("object_key", sa.String(), "Of the file's copy in the object store; null: there is none"),
        ("size_bytes", sa.BigInteger(), "Of the copy"),
        ("sha256", sa.String(), "Of the copy, in hexadecimal digits"),
    ):
        op.add_column("segments", sa.Column(name, kind, nullable=True, comment=meaning))
    op.drop_index(ON_DISK, "segments")
    op.create_index(
        THERE,
        "segments",
        ["channel_id", "started_at"],
        postgresql_where=sa.text("path IS NOT NULL OR object_key IS NOT NULL"),
    )
    op.create_table(
        "machines",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("disk", sa.String(), nullable=False, comment="Of its home folder, made once"),
        sa.Column("version", sa.String(), nullable=False, comment="Of Showmood"),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=True, comment="Files that wait to be copied"),
        sa.Column("upload_bytes", sa.BigInteger(), nullable=True, comment="Their size"),
        sa.Column(
            "upload_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the oldest of them was finished",
        ),
        sa.Column("upload_error", sa.String(), nullable=True, comment="Why they wait"),
        comment="Machines that watch shows",
    )
    op.create_table(
        "installation",
        sa.Column(
            "id",
            sa.Uuid(),
            server_default=sa.text("gen_random_uuid()"),
            primary_key=True,
        ),
        comment="One row: tells this history from others that may share an object store",
    )
    op.execute("INSERT INTO installation DEFAULT VALUES")


def downgrade() -> None:
    """Undo; objects in the store are not deleted."""
    op.drop_table("installation")
    op.drop_table("machines")
    op.drop_index(THERE, "segments")
    op.create_index(
        ON_DISK,
        "segments",
        ["channel_id", "started_at"],
        postgresql_where=sa.text("path IS NOT NULL"),
    )
    for name in ("sha256", "size_bytes", "object_key", "machine"):
        op.drop_column("segments", name)
