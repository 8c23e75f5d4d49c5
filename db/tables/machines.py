"""The tables of machines, and of this history's own identifier."""

from uuid import UUID

from sqlalchemy import BigInteger, Integer, String, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.observations import Base
from db.tables.shows import Time

__all__ = ["Base", "Installation", "Machine"]


class Machine(Base):
    """A machine that watches shows."""

    __tablename__ = "machines"
    __table_args__ = ({"comment": "Machines that watch shows"},)

    name: Mapped[str] = mapped_column(String, primary_key=True)
    disk: Mapped[str] = mapped_column(String, comment="Of its home folder, made once")
    version: Mapped[str] = mapped_column(String, comment="Of Showmood")
    seen_at: Mapped[Time]
    uploads: Mapped[int | None] = mapped_column(Integer, comment="Files that wait to be copied")
    upload_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Their size")
    upload_since: Mapped[Time | None] = mapped_column(
        comment="When the oldest of them was finished"
    )
    upload_error: Mapped[str | None] = mapped_column(String, comment="Why they wait")


class Installation(Base):
    """The identifier of this history among others that share an object store."""

    __tablename__ = "installation"
    __table_args__ = (
        {"comment": "One row: tells this history from others that may share an object store"},
    )

    id: Mapped[UUID] = mapped_column(
        Uuid, primary_key=True, server_default=text("gen_random_uuid()")
    )
