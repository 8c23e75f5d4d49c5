"""A channel's lock: one watcher each, and none left behind by a dead one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.errors import ChannelBusy, ChannelLockLost
from db.session import unreachable

_HELD: Final = (
    "FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.classid = :high AND l.objid = :low"
)


class ChannelLock:
    """A channel's lock, held as long as its connection lives."""

    def __init__(self, engine: Engine, slug: str, holder: str) -> None:
        """Remember; nothing is taken yet."""
        self._slug, self._holder, self._url = slug, holder, engine.url
        self._engine = create_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None

    def take(self) -> None:
        """Take it, on a new connection.

        Raise DatabaseUnreachable; ChannelBusy, which says who has it, if it is taken.
        """
        try:
            connection = self._connection = self._engine.connect()
            connection.execute(
                text(
                    "SELECT set_config('application_name', :name, false),"
                    " set_config('tcp_keepalives_idle', '30', false),"
                    " set_config('tcp_keepalives_interval', '10', false),"
                    " set_config('tcp_keepalives_count', '3', false)"
                ),
                {"name": f"showmood {self._holder}".encode("ascii", "replace").decode()[:63]},
            )
            key = _lock_key(self._slug)
            taken = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
            name = None if taken else _holder(connection, key)
        except DBAPIError as error:
            self._drop()
            raise unreachable(self._url, error.orig or error) from error
        if not taken:
            self._drop()
            raise ChannelBusy(
                f"channel '{self._slug}' is already being watched by {name or 'somebody'}: "
                "wait for it to end, or cancel it",
                holder=name,
            )

    def check(self) -> None:
        """Return if it is ours: still, or again where its connection was lost and nobody took it.

        Raise ChannelLockLost if somebody else has it; DatabaseUnreachable.
        """
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return
        except DBAPIError:
            self._drop()
        try:
            self.take()
        except ChannelBusy as busy:
            raise ChannelLockLost(
                f"the connection that held channel '{self._slug}' was lost, and "
                f"{busy.holder or 'somebody else'} watches it by now: this watch has ended"
            ) from busy

    def free(self) -> None:
        """Give it back: by now, not when the server has noticed that the session has ended."""
        if self._connection is not None:
            with suppress(DBAPIError):
                key = {"key": _lock_key(self._slug)}
                self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        self._drop()
        self._engine.dispose()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # closing the session frees the lock, come what may
            self._connection.close()
            self._connection = None


def _lock_key(slug: str) -> int:
    digest = hashlib.sha256(f"showmood channel {slug}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def channel_lock(engine: Engine, slug: str, holder: str) -> Iterator[ChannelLock]:
    """Hold the lock of a channel: one watcher each, and none left behind by a dead one.

    It lives on a connection of its own, whose application name tells `holder` to others. Raise
    ChannelBusy, which says who has it, if it is taken; DatabaseUnreachable.
    """
    lock = ChannelLock(engine, slug, holder)
    try:
        lock.take()
        yield lock
    finally:
        lock.free()


def is_watched(connection: Connection, slug: str) -> bool:
    """Tell whether somebody holds the lock of a channel; also to who may not see by what name."""
    key = _lock_key(slug) & 0xFFFF_FFFF_FFFF_FFFF
    held = connection.scalar(
        text(f"SELECT true {_HELD} LIMIT 1"), {"high": key >> 32, "low": key & 0xFFFF_FFFF}
    )
    return bool(held)


def holder_of(connection: Connection, slug: str) -> str | None:
    """Return who holds the lock of a channel."""
    return _holder(connection, _lock_key(slug))


def _holder(connection: Connection, key: int) -> str | None:
    unsigned = key & 0xFFFF_FFFF_FFFF_FFFF
    name: str | None = connection.scalar(
        text(f"SELECT a.application_name {_HELD}"),
        {"high": unsigned >> 32, "low": unsigned & 0xFFFF_FFFF},
    )
    return name.removeprefix("showmood ") if name else None
