"""Tables of seconds and shots, pose of faces, imports, and the age of each broadcast.

Revision ID: c4a17e5b9d02
Revises: 3b9f5c27a1d8
Create Date: 2026-11-30 02:10:00
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "c4a17e5b9d02"
down_revision = "3b9f5c27a1d8"
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

POSE = {
    "roll_deg": "Tilt of the line through the eyes, degrees, clockwise in the picture",
    "yaw": "How far the nose is off the middle of the eyes, in distances between them; 0: ahead,"
    " 0.5: about profile, positive: turned to the right of the picture",
}

STRONGEST = (
    f"CASE greatest({', '.join(EMOTIONS)}) "
    + " ".join(f"WHEN {emotion} THEN '{emotion}'" for emotion in EMOTIONS)
    + " END"
)


def emotions(prefix: str = "") -> list[sa.Column[float]]:
    """Return one column per emotion."""
    return [sa.Column(f"{prefix}{emotion}", sa.REAL(), nullable=True) for emotion in EMOTIONS]


def affect() -> list[sa.Column[float]]:
    """Return the columns of `AFFECT`."""
    return [
        sa.Column(name, sa.REAL(), nullable=True, comment=said) for name, said in AFFECT.items()
    ]


def time(name: str, *, nullable: bool = False, comment: str | None = None) -> sa.Column[datetime]:
    """Return a column of instants."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def minute_columns() -> list[sa.Column[float] | sa.Column[int] | sa.Column[str]]:
    """Return the new columns of `emotion_minutes`."""
    return [
        sa.Column(
            "seconds",
            sa.Integer(),
            nullable=True,
            comment="Seconds with a face, whose mean this is",
        ),
        *(
            sa.Column(
                f"{emotion}_s",
                sa.SmallInteger(),
                nullable=True,
                comment="Seconds: it was strongest",
            )
            for emotion in EMOTIONS
        ),
        *emotions("raw_"),
        *affect(),
        sa.Column("models", sa.String(), nullable=True, comment="The segments' models, each once"),
        sa.Column(
            "low_fps", sa.REAL(), nullable=True, comment="Looks a second, of the slowest segment"
        ),
        sa.Column(
            "high_fps", sa.REAL(), nullable=True, comment="Looks a second, of the quickest segment"
        ),
    ]


def broadcast_columns() -> list[sa.Column[bool] | sa.Column[datetime]]:
    """Return the new columns of `broadcasts`."""
    return [
        sa.Column(
            "imported",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="A file, by hand: kept until it is forgotten",
        ),
        sa.Column(
            "stored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When something of it was last written, to the hour: its age",
        ),
        time("observed_from", nullable=True, comment="No observation is earlier; a whole hour"),
        time("observed_until", nullable=True, comment="All observations are earlier; a whole hour"),
    ]


def make_tables() -> None:
    """Create the new tables."""
    op.create_table(
        "shots",
        sa.Column("channel_id", sa.Integer(), nullable=False),
        time("started_at", comment="Its first analysed frame"),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        time(
            "seen_before",
            nullable=True,
            comment="The last analysed frame before it; null: there is none",
        ),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("shots_broadcast_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("shots_channel_id_fkey")
        ),
        sa.PrimaryKeyConstraint("channel_id", "started_at", name=op.f("shots_pkey")),
        comment="Where a shot begins; it lasts until the next one, or until a hole",
    )
    op.create_index(
        op.f("shots_broadcast_id_started_at_idx"), "shots", ["broadcast_id", "started_at"]
    )
    op.create_table(
        "seconds",
        time("second", comment="Its beginning"),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False, comment="Analysed frames"),
        sa.Column("n", sa.Integer(), nullable=False, comment="Observations"),
        sa.Column("tracks", sa.Integer(), nullable=False, comment="Distinct tracks"),
        *emotions(),
        *emotions("raw_"),
        *affect(),
        sa.Column(
            "is_ad",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="All of its frames are of advertisements, which n and means leave out",
        ),
        sa.ForeignKeyConstraint(
            ["broadcast_id"], ["broadcasts.id"], name=op.f("seconds_broadcast_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("seconds_channel_id_fkey")
        ),
        sa.PrimaryKeyConstraint("channel_id", "second", "broadcast_id", name=op.f("seconds_pkey")),
        comment="Each second that was looked at: means over its faces, null where there was none",
    )
    op.create_index(op.f("seconds_broadcast_id_second_idx"), "seconds", ["broadcast_id", "second"])
    op.create_table(
        "channel_locks",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column(
            "key",
            sa.BigInteger(),
            nullable=False,
            comment="Another one as soon as somebody holds it who may not write",
        ),
        sa.PrimaryKeyConstraint("slug", name=op.f("channel_locks_pkey")),
        comment="The advisory lock that is a channel's, now",
    )


NO_AD = (
    "NOT EXISTS (SELECT FROM segments a WHERE a.channel_id = o.channel_id AND a.is_ad"
    " AND a.started_at <= o.ts AND a.ended_at > o.ts)"
)
IN_ORDER = "ORDER BY ts, track_id"

# Existing rows. Frames without a face were not stored: they are assumed to be evenly spaced
# over their segment.
FILL_SECONDS = f"""
INSERT INTO seconds (second, channel_id, broadcast_id, looks, n, tracks,
    {", ".join(EMOTIONS)}, {", ".join(f"raw_{name}" for name in EMOTIONS)},
    {", ".join(AFFECT)}, is_ad)
SELECT second, coalesce(o.channel_id, l.channel_id), broadcast_id, coalesce(l.looks, 0),
    coalesce(o.n, 0), coalesce(o.tracks, 0),
    {", ".join(EMOTIONS)}, {", ".join(f"raw_{name}" for name in EMOTIONS)}, {", ".join(AFFECT)},
    coalesce(l.is_ad, false)
FROM (
    SELECT date_trunc('second', ts, 'UTC') AS second, channel_id,
        (track_id / {TRACKS_PER_BROADCAST})::integer AS broadcast_id,
        count(*)::integer AS n, count(DISTINCT track_id)::integer AS tracks,
        {", ".join(f"avg(smoothed_{name} {IN_ORDER})::real AS {name}" for name in EMOTIONS)},
        {", ".join(f"avg({name} {IN_ORDER})::real AS raw_{name}" for name in EMOTIONS)},
        {", ".join(f"avg({name} {IN_ORDER})::real AS {name}" for name in AFFECT)}
    FROM observations o WHERE {NO_AD} GROUP BY 2, 1, 3
) o FULL JOIN (
    SELECT date_trunc('second', s.started_at
            + (i * s.duration_s * 1000000 / s.frames_analysed)::integer * interval '1 us', 'UTC')
            AS second, s.channel_id, s.broadcast_id, count(*)::integer AS looks,
        bool_and(coalesce(s.is_ad, false)) AS is_ad
    FROM segments s CROSS JOIN generate_series(0, s.frames_analysed - 1) i
    WHERE s.status = 'analysed' GROUP BY 1, 2, 3
) l USING (second, broadcast_id)
"""

# A minute whose raw rows were deleted keeps its mean over faces; of its number of seconds only an
# upper bound is known.
FILL_MINUTES = f"""
UPDATE emotion_minutes m SET ({", ".join(EMOTIONS)}, seconds,
    {", ".join(f"{name}_s" for name in EMOTIONS)},
    {", ".join(f"raw_{name}" for name in EMOTIONS)}, {", ".join(AFFECT)})
= ROW({", ".join(f"s.{name}" for name in EMOTIONS)}, s.seconds,
    {", ".join(f"s.{name}_s" for name in EMOTIONS)},
    {", ".join(f"s.raw_{name}" for name in EMOTIONS)}, {", ".join(f"s.{name}" for name in AFFECT)})
FROM (
    SELECT channel_id, broadcast_id, date_trunc('minute', second, 'UTC') AS minute,
        sum(n) AS n, count(*)::integer AS seconds,
        {", ".join(f"avg({name} ORDER BY second)::real AS {name}" for name in EMOTIONS)},
        {
    ", ".join(
        f"(count(*) FILTER (WHERE ({STRONGEST}) = '{name}'))::smallint AS {name}_s"
        for name in EMOTIONS
    )
},
        {", ".join(f"avg(raw_{name} ORDER BY second)::real AS raw_{name}" for name in EMOTIONS)},
        {", ".join(f"avg({name} ORDER BY second)::real AS {name}" for name in AFFECT)}
    FROM seconds WHERE n > 0 GROUP BY 1, 2, 3
) s
WHERE m.channel_id = s.channel_id AND m.broadcast_id = s.broadcast_id AND m.minute = s.minute
    AND m.n = s.n
"""

FILL_REST = (
    "UPDATE emotion_minutes SET seconds = least(n, 60) WHERE seconds IS NULL",
    """
UPDATE emotion_minutes m SET (models, low_fps, high_fps) = (
    SELECT string_agg(DISTINCT model, ', ' ORDER BY model), min(analysed_fps), max(analysed_fps)
    FROM segments s WHERE s.broadcast_id = m.broadcast_id AND s.status = 'analysed'
        AND s.started_at < m.minute + interval '1 minute'
        AND s.started_at > m.minute - interval '10 minutes' AND s.ended_at > m.minute
)
""",
    """
UPDATE broadcasts b SET stored_at = coalesce(b.ended_at, b.started_at),
    imported = b.flow_run_id IS NULL AND CASE
        WHEN b.source_id IS NULL THEN c.url LIKE 'file:%' ELSE b.source_id LIKE 'sha256:%' END,
    observed_from = date_bin('1 hour', t.first_ts, '2000-01-01+00'),
    observed_until = date_bin('1 hour', t.last_ts, '2000-01-01+00') + interval '1 hour'
FROM channels c, broadcasts d LEFT JOIN LATERAL (
    SELECT min(first_ts) AS first_ts, max(last_ts) AS last_ts FROM face_tracks
    WHERE broadcast_id = d.id
) t ON true
WHERE c.id = b.channel_id AND d.id = b.id
""",
    # A file imported by an older version may be from another year.
    "UPDATE broadcasts SET stored_at = now() WHERE imported",
)

LOOKED_AT_SELDOM = "status <> 'analysed' OR frames_analysed < 2 * duration_s + 1"


def upgrade() -> None:
    """Apply: appended columns; existing rows are counted once."""
    make_tables()
    op.create_index(
        "segments_broadcast_id_seldom_idx",
        "segments",
        ["broadcast_id"],
        postgresql_where=sa.text(LOOKED_AT_SELDOM),
    )
    for name, said in POSE.items():
        op.add_column("observations", sa.Column(name, sa.REAL(), nullable=True, comment=said))
    op.add_column(
        "segments",
        sa.Column(
            "frames_us",
            postgresql.ARRAY(sa.Integer()),
            nullable=True,
            comment="Analysed frames, microseconds after started_at",
        ),
    )
    for column in (*broadcast_columns(),):
        op.add_column("broadcasts", column)
    for added in minute_columns():
        op.add_column("emotion_minutes", added)
    op.create_table_comment(
        "emotion_minutes",
        "Mean of each smoothed emotion in each minute, over its seconds with a face",
    )
    for statement in (FILL_SECONDS, FILL_MINUTES, *FILL_REST):
        op.execute(statement)


def downgrade() -> None:
    """Undo; minutes keep their means over time."""
    op.create_table_comment(
        "emotion_minutes",
        "Mean of each smoothed emotion in each minute, computed from observations",
    )
    for added in reversed(minute_columns()):
        op.drop_column("emotion_minutes", added.name)
    for column in reversed(broadcast_columns()):
        op.drop_column("broadcasts", column.name)
    op.drop_column("segments", "frames_us")
    for name in reversed(POSE):
        op.drop_column("observations", name)
    op.drop_index("segments_broadcast_id_seldom_idx", "segments")
    for table in ("channel_locks", "seconds", "shots"):
        op.drop_table(table)
