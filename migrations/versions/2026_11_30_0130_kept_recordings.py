"""Kept stretches of recordings, and views for the page of the shows.

Revision ID: 7c41d9e0b6f2
Revises: 5e8a2d90c174
Create Date: 2026-11-30 01:30:00
"""

import sqlalchemy as sa
from alembic import op

revision = "7c41d9e0b6f2"
down_revision = "5e8a2d90c174"
branch_labels = None
depends_on = None

SHOW = "coalesce(nullif(b.title, ''), c.slug)"

VIEWS = {
    "shows": f"""
SELECT c.slug AS channel, {SHOW} AS show, b.started_at, b.planned_end, b.ended_at, b.status,
    b.flow_run_id, b.id AS broadcast_id
FROM broadcasts b JOIN channels c ON c.id = b.channel_id
""",
    "show_segments": """
SELECT c.slug AS channel, s.started_at, s.ended_at, s.sequence, s.duration_s, s.offset_s,
    s.start_is_estimated, s.width_px, s.height_px, s.status, s.lag_ms, s.path, s.broadcast_id
FROM segments s JOIN channels c ON c.id = s.channel_id
""",
    "show_gaps": """
SELECT c.slug AS channel, g.started_at, g.ended_at, g.why, g.broadcast_id
FROM gaps g JOIN channels c ON c.id = g.channel_id
""",
    "kept_recordings": """
SELECT k.id, c.slug AS channel, k.started_at, k.ended_at, k.note, k.kept_at
FROM kept k JOIN channels c ON c.id = k.channel_id
""",
}

COMMENTS = {
    "shows": "One row a show, without its figures: from when to when, and whose run it was",
    "show_segments": "One row a piece of recording: where its file is, and how its analysis went",
    "show_gaps": "One row a stretch on air that was not recorded, and why",
    "kept_recordings": "Stretches of recording that stay on disk until they are let go",
}

CHANNEL = "Short name of the channel"
BROADCAST = "One show has one number, in all views"
COLUMN_COMMENTS = {
    "shows": {
        "channel": CHANNEL,
        "show": "Title of the broadcast, or the channel where it has none",
        "started_at": "When the watch began",
        "planned_end": "When it was to end; null where that was not said",
        "ended_at": "When the watch ended; null while it goes on",
        "status": "live, completed, cancelled, failed or interrupted",
        "flow_run_id": "Prefect's flow run; null where there was none",
        "broadcast_id": BROADCAST,
    },
    "show_segments": {
        "channel": CHANNEL,
        "started_at": "By the source's clock",
        "ended_at": "Start and duration; not included",
        "sequence": "Counts the pieces of a show",
        "duration_s": "How long it is",
        "offset_s": "Where in the file it begins",
        "start_is_estimated": "The source gave no clock",
        "width_px": "Width of the picture",
        "height_px": "Height of the picture",
        "status": "recorded (on disk, not analysed yet), analysed or failed",
        "lag_ms": "From its end to its rows",
        "path": "Of its file, on the machine that recorded it; null: that was deleted",
        "broadcast_id": BROADCAST,
    },
    "show_gaps": {
        "channel": CHANNEL,
        "started_at": "By the source's clock",
        "ended_at": "By the source's clock",
        "why": "What was wrong",
        "broadcast_id": BROADCAST,
    },
    "kept_recordings": {
        "id": "To let it go: showmood keep --let-go ID",
        "channel": CHANNEL,
        "started_at": "Beginning of the stretch",
        "ended_at": "End of the stretch",
        "note": "Why, in the words of whoever keeps it",
        "kept_at": "Since when",
    },
}


def quoted(words: str) -> str:
    """Return a string literal."""
    return "'" + words.replace("'", "''") + "'"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "kept",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("channel_id", sa.Integer, sa.ForeignKey("channels.id"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.String, nullable=False, comment="Why, in the words of whoever keeps"),
        sa.Column(
            "kept_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.CheckConstraint("ended_at > started_at", name=op.f("kept_order_check")),
        comment="A stretch of recording that stays on disk until it is let go",
    )
    op.create_index("kept_channel_id_started_at_idx", "kept", ["channel_id", "started_at"])
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS {quoted(COMMENTS[name])}")
        for column, meaning in COLUMN_COMMENTS[name].items():
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS {quoted(meaning)}")


def downgrade() -> None:
    """Undo."""
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.drop_table("kept")
