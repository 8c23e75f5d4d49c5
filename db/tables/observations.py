"""The tables of observations, and of the means computed from them.

One column per emotion, null where the network lacks one, takes a fifth of the space and time of one
row per emotion.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.shows import AFFECT, EMOTIONS, POSE, Base, Time

__all__ = ["Base", "ChannelLockKey", "Shot", "emotion_minutes", "observations", "seconds"]


class Shot(Base):
    """Start of a shot, which lasts until the next one, or until a gap."""

    __tablename__ = "shots"
    __table_args__ = (
        Index(None, "broadcast_id", "started_at"),
        {"comment": "Where a shot begins; it lasts until the next one, or until a hole"},
    )

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"), primary_key=True)
    started_at: Mapped[Time] = mapped_column(primary_key=True, comment="Its first analysed frame")
    broadcast_id: Mapped[int] = mapped_column(ForeignKey("broadcasts.id"))
    seen_before: Mapped[Time | None] = mapped_column(
        comment="The last analysed frame before it; null: there is none"
    )


class ChannelLockKey(Base):
    """The key of a channel's lock, which only writers can read."""

    __tablename__ = "channel_locks"
    __table_args__ = ({"comment": "The advisory lock that is a channel's, now"},)

    slug: Mapped[str] = mapped_column(String, primary_key=True)
    key: Mapped[int] = mapped_column(
        BigInteger, comment="Another one as soon as somebody holds it who may not write"
    )


def _emotion_columns(prefix: str = "") -> list[Column[Any]]:
    return [Column(f"{prefix}{emotion}", REAL, nullable=True) for emotion in EMOTIONS]


# No foreign keys: they cost a look-up per row, and only the storing transaction writes here. The
# columns are ordered to avoid padding: eight bytes, then four.
observations = Table(
    "observations",
    Base.metadata,
    Column("ts", DateTime(timezone=True), comment="By the source's clock", nullable=False),
    Column("track_id", BigInteger, comment="face_tracks.id, tells the broadcast", nullable=False),
    Column("channel_id", Integer, nullable=False),
    Column("x0", REAL, nullable=False, comment="Left, in pixels of the source"),
    Column("y0", REAL, nullable=False, comment="Top, in pixels of the source"),
    Column("x1", REAL, nullable=False, comment="Right, in pixels of the source"),
    Column("y1", REAL, nullable=False, comment="Bottom, in pixels of the source"),
    Column("score", REAL, nullable=False, comment="How sure it is a face, 0 to 1"),
    *_emotion_columns(),
    *_emotion_columns("smoothed_"),
    *(Column(name, REAL, nullable=True, comment=note) for name, note in (AFFECT | POSE).items()),
    PrimaryKeyConstraint("channel_id", "ts", "track_id"),
    comment="One face at one time: box, emotions as the network gave them, and smoothed",
    postgresql_partition_by="RANGE (ts)",
)

emotion_minutes = Table(
    "emotion_minutes",
    Base.metadata,
    Column("channel_id", Integer, ForeignKey("channels.id"), primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True, comment="Its beginning"),
    Column("broadcast_id", Integer, ForeignKey("broadcasts.id"), primary_key=True),
    Column("n", Integer, nullable=False, comment="Observations"),
    Column("tracks", Integer, nullable=False, comment="Distinct tracks"),
    *_emotion_columns(),
    Column("seconds", Integer, nullable=True, comment="Seconds with a face, whose mean this is"),
    *(
        Column(f"{emotion}_s", SmallInteger, nullable=True, comment="Seconds: it was strongest")
        for emotion in EMOTIONS
    ),
    *_emotion_columns("raw_"),
    *(Column(name, REAL, nullable=True, comment=note) for name, note in AFFECT.items()),
    Column("models", String, nullable=True, comment="The segments' models, each once"),
    Column("low_fps", REAL, nullable=True, comment="Looks a second, of the slowest segment"),
    Column("high_fps", REAL, nullable=True, comment="Looks a second, of the quickest segment"),
    *(
        Column(
            f"{name}_known_s",
            SmallInteger,
            nullable=True,
            comment="Seconds with a face: it is known",
        )
        for name in (*EMOTIONS, "affect")
    ),
    Index(None, "broadcast_id", "minute"),
    comment="Mean of each smoothed emotion in each minute, over its seconds with a face",
)

seconds = Table(
    "seconds",
    Base.metadata,
    Column("second", DateTime(timezone=True), primary_key=True, comment="Its beginning"),
    Column("channel_id", Integer, ForeignKey("channels.id"), primary_key=True),
    Column("broadcast_id", Integer, ForeignKey("broadcasts.id"), primary_key=True),
    Column("looks", Integer, nullable=False, comment="Analysed frames"),
    Column("n", Integer, nullable=False, comment="Observations"),
    Column("tracks", Integer, nullable=False, comment="Distinct tracks"),
    *_emotion_columns(),
    *_emotion_columns("raw_"),
    *(Column(name, REAL, nullable=True, comment=note) for name, note in AFFECT.items()),
    Column(
        "is_ad",
        Boolean,
        server_default=false(),
        nullable=False,
        comment="All of its frames are of advertisements, which n and means leave out",
    ),
    PrimaryKeyConstraint("channel_id", "second", "broadcast_id"),
    Index(None, "broadcast_id", "second"),
    comment="Each second that was looked at: means over its faces, null where there was none",
)
