"""The tables of shows and their segments, gaps and tracks. Their views are in the migrations.

Times are timestamptz. Observations are in `db.tables.observations`. Classes are named after their
tables: `Segment` and `Gap` are rows here, files and times in `flows.capture.segment`; the two
packages are independent.
"""

from datetime import datetime
from typing import Annotated, Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

EMOTIONS: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The emotions in the order of the columns."""

AFFECT: Final = {
    "valence": "How pleasant, -1 to 1; null where the network can't tell",
    "arousal": "How aroused, -1 to 1; null where the network can't tell",
}
"""Further outputs of some networks, by column, with their meaning."""

POSE: Final = {
    "roll_deg": "Tilt of the line through the eyes, degrees, clockwise in the picture",
    "yaw": "How far the nose is off the middle of the eyes, in distances between them; 0: ahead,"
    " 0.5: about profile, positive: turned to the right of the picture",
}
"""Pose of a face, by column: approximations from five landmarks, eight bytes per row."""

TRACKS_PER_BROADCAST: Final = 100_000_000
"""A track's id is `broadcast_id * TRACKS_PER_BROADCAST + track_no`: stable across re-analyses,
known before it is written, and the broadcast can be derived without a join."""

STATUSES_OF_BROADCAST: Final = ("live", "completed", "cancelled", "failed", "interrupted")
STATUSES_OF_SEGMENT: Final = ("recorded", "analysed", "failed")

Time = Annotated[datetime, mapped_column(DateTime(timezone=True))]


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


NO_AD: Final = (
    "NOT EXISTS (SELECT FROM segments a WHERE a.channel_id = o.channel_id AND a.is_ad"
    " AND a.started_at <= o.ts AND a.ended_at > o.ts)"
)
"""Condition on observations `o`: outside advertisements."""


class Base(DeclarativeBase):
    """Root of the models, with fixed names of constraints for migrations."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )


class Channel(Base):
    """A channel: the recurring shows of one name."""

    __tablename__ = "channels"
    __table_args__ = (
        CheckConstraint("slug <> ''", name="slug"),
        {"comment": "What is watched, again and again"},
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    slug: Mapped[str] = mapped_column(String, unique=True, comment="Short name, as in commands")
    url: Mapped[str] = mapped_column(String, comment="Page or playlist, as last used")


class Broadcast(Base):
    """One show: one watch of a channel, or one recorded file."""

    __tablename__ = "broadcasts"
    __table_args__ = (
        UniqueConstraint("channel_id", "started_at"),
        CheckConstraint(_one_of("status", STATUSES_OF_BROADCAST), name="status"),
        {"comment": "One show: one watch of a channel, or one recorded file"},
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"))
    started_at: Mapped[Time]
    planned_end: Mapped[Time | None]
    ended_at: Mapped[Time | None]
    source_id: Mapped[str | None] = mapped_column(String, comment="The site's name of the video")
    title: Mapped[str | None] = mapped_column(String)
    flow_run_id: Mapped[str | None] = mapped_column(String, comment="Prefect's flow run")
    status: Mapped[str] = mapped_column(String)
    imported: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), comment="A file, by hand: kept until it is forgotten"
    )
    stored_at: Mapped[Time] = mapped_column(
        server_default=text("now()"),
        comment="When something of it was last written, to the hour: its age",
    )
    observed_from: Mapped[Time | None] = mapped_column(
        comment="No observation is earlier; a whole hour"
    )
    observed_until: Mapped[Time | None] = mapped_column(
        comment="All observations are earlier; a whole hour"
    )


class Segment(Base):
    """A recorded segment of a few seconds, and the state of its analysis."""

    __tablename__ = "segments"
    __table_args__ = (
        CheckConstraint(_one_of("status", STATUSES_OF_SEGMENT), name="status"),
        CheckConstraint("ended_at > started_at", name="order"),
        Index(None, "broadcast_id", "started_at"),
        Index(
            "segments_channel_id_started_at_there_idx",
            "channel_id",
            "started_at",
            postgresql_where=text("path IS NOT NULL OR object_key IS NOT NULL"),
        ),
        Index(
            "segments_channel_id_started_at_ads_idx",
            "channel_id",
            "started_at",
            postgresql_where=text("is_ad"),
        ),
        Index(
            "segments_broadcast_id_seldom_idx",
            "broadcast_id",
            postgresql_where=text("status <> 'analysed' OR frames_analysed < 2 * duration_s + 1"),
        ),
        {"comment": "A piece of recording of a few seconds, and how its analysis went"},
    )

    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"), primary_key=True)
    started_at: Mapped[Time] = mapped_column(primary_key=True, comment="By the source's clock")
    ended_at: Mapped[Time] = mapped_column(comment="Start and duration; not included")
    broadcast_id: Mapped[int] = mapped_column(ForeignKey("broadcasts.id"))
    sequence: Mapped[int] = mapped_column(Integer, comment="Counts the segments of a broadcast")
    duration_s: Mapped[float] = mapped_column(Double)
    path: Mapped[str | None] = mapped_column(String, comment="Of its file; null: that was deleted")
    offset_s: Mapped[float] = mapped_column(
        Double, server_default=text("0"), comment="Where in the file it begins"
    )
    start_is_estimated: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), comment="The source gave no clock"
    )
    width_px: Mapped[int | None] = mapped_column(Integer)
    height_px: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String, comment="recorded: on disk, not analysed yet")
    frames_analysed: Mapped[int | None] = mapped_column(Integer)
    analysed_fps: Mapped[float | None] = mapped_column(Double)
    lag_ms: Mapped[int | None] = mapped_column(Integer, comment="From end of segment to its rows")
    model: Mapped[str | None] = mapped_column(String)
    tracker_state: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="To go on with the same tracks"
    )
    error: Mapped[str | None] = mapped_column(String)
    is_ad: Mapped[bool | None] = mapped_column(
        Boolean,
        comment="Whether the source says that it is an advertisement; null: it says nothing",
    )
    needs: Mapped[list[str] | None] = mapped_column(
        ARRAY(String),
        comment="Files beside its own that are decoded first: it begins amid pictures",
    )
    machine: Mapped[str | None] = mapped_column(
        String, comment="Whose disk path is on; null: not known"
    )
    object_key: Mapped[str | None] = mapped_column(
        String, comment="Of the file's copy in the object store; null: there is none"
    )
    size_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Of the copy")
    sha256: Mapped[str | None] = mapped_column(String, comment="Of the copy, in hexadecimal digits")
    frames_us: Mapped[list[int] | None] = mapped_column(
        ARRAY(Integer), comment="Analysed frames, microseconds after started_at"
    )


class Gap(Base):
    """A stretch of a broadcast without a segment, and the reason."""

    __tablename__ = "gaps"
    __table_args__ = (
        CheckConstraint("ended_at >= started_at", name="order"),
        Index(None, "channel_id", "started_at"),
        {"comment": "A stretch of a broadcast that no segment covers, and why"},
    )

    broadcast_id: Mapped[int] = mapped_column(ForeignKey("broadcasts.id"), primary_key=True)
    started_at: Mapped[Time] = mapped_column(primary_key=True)
    ended_at: Mapped[Time]
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"))
    why: Mapped[str] = mapped_column(String)


class Kept(Base):
    """A stretch of recording that retention does not delete."""

    __tablename__ = "kept"
    __table_args__ = (
        CheckConstraint("ended_at > started_at", name="order"),
        Index(None, "channel_id", "started_at"),
        {"comment": "A stretch of recording that stays on disk until it is let go"},
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"))
    started_at: Mapped[Time]
    ended_at: Mapped[Time]
    note: Mapped[str] = mapped_column(String, comment="Why, in the words of whoever keeps")
    kept_at: Mapped[Time] = mapped_column(server_default=text("now()"))


class FaceTrack(Base):
    """One track: a face followed through one broadcast."""

    __tablename__ = "face_tracks"
    __table_args__ = (
        UniqueConstraint("broadcast_id", "track_no"),
        CheckConstraint(
            f"id = broadcast_id * {TRACKS_PER_BROADCAST}::bigint + track_no", name="id"
        ),
        CheckConstraint(f"track_no BETWEEN 1 AND {TRACKS_PER_BROADCAST - 1}", name="track_no"),
        {"comment": "One face, followed through one broadcast until it was lost"},
    )

    id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="From broadcast_id and track_no"
    )
    broadcast_id: Mapped[int] = mapped_column(ForeignKey("broadcasts.id"))
    track_no: Mapped[int] = mapped_column(Integer, comment="Within the broadcast, from 1")
    first_ts: Mapped[Time] = mapped_column(comment="Of its first observation")
    last_ts: Mapped[Time] = mapped_column(comment="Of its last observation")
