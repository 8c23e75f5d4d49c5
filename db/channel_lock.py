"""A channel's lock, which ensures one watcher per channel and is freed when its process dies.

It is an advisory lock, which every Postgres user can take. So its key is in a table
that only writers can read, and a lock held by a user without the right to write is ignored: the
next watcher creates another key.
"""

import hashlib
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, Row, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.errors import ChannelBusy, ChannelLockLost, DatabaseBusy
from db.session import connection_defaults, redact, unreachable

_log = logging.getLogger(__name__)


class ChannelLock:
    """A channel's lock, held as long as its connection lives."""

    def __init__(self, engine: Engine, slug: str, holder: str) -> None:
        """Keep the arguments; nothing is taken yet."""
        self._slug, self._holder, self._url = slug, holder, engine.url
        self._engine = create_engine(
            engine.url,
            connect_args=connection_defaults(engine.url),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
        self._connection: Connection | None = None
        self._session: Row[tuple[int, datetime]] | None = None
        self._key = 0

    def take(self) -> None:
        """Take it, on a new connection; the session of the one before is ended.

        The database may keep that for a minute, if its connection was cut, and the lock with it.
        Raise DatabaseUnreachable, DatabaseBusy; ChannelBusy, which says who has it, if it is taken.
        """
        try:
            connection = self._connection = self._engine.connect()
            connection.execute(
                text(
                    "SELECT set_config('application_name', :name, false),"
                    " set_config('tcp_keepalives_idle', '30', false),"
                    " set_config('tcp_keepalives_interval', '10', false),"
                    " set_config('tcp_keepalives_count', '3', false),"
                    " set_config('tcp_user_timeout', '30000', false)"
                ),
                {"name": f"showmood {self._holder}".encode("ascii", "replace").decode()[:63]},
            )
            last = self._session
            if last is not None and connection.scalar(_END_SESSION, last._asdict()) is False:
                self._drop()
                raise DatabaseBusy(
                    f"{redact(self._url)} does not end the session that held channel "
                    f"'{self._slug}', whose connection was lost: it is asked again"
                )
            self._session = connection.execute(_SESSION).one_or_none()
            taken, name = self._try(connection)
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

    def _try(self, connection: Connection) -> tuple[bool, str | None]:
        """Return whether it was acquired, and if not, the name of its holder."""
        connection.execute(_MAKE_KEY, {"slug": self._slug, "key": _first_key(self._slug)})
        for _ in range(_ATTEMPTS):
            key = connection.scalar(_KEY, {"slug": self._slug})
            if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                if connection.scalar(_KEY, {"slug": self._slug}) == key:
                    self._key = key
                    return True, None
                connection.execute(_UNLOCK, {"key": key})  # another watcher made a new one
                continue
            holders = _holders(connection, key)
            for name, may_write in holders:
                if may_write:
                    return False, name
            if holders:
                new = secrets.randbits(63)
                connection.execute(_NEW_KEY, {"slug": self._slug, "key": key, "new": new})
                _log.warning(
                    "%s held the lock of channel '%s' without the right to write: ignored",
                    holders[0][0] or "somebody",
                    self._slug,
                )
        return False, None

    def check(self) -> None:
        """Verify that it is held; acquire it again if its connection was lost.

        Raise ChannelLockLost if another process has it; DatabaseUnreachable, DatabaseBusy.
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
                f"{busy.holder or 'somebody else'} watches it by now: this watch has ended",
                holder=busy.holder,
            ) from busy

    def free(self) -> None:
        """Release it immediately, before the server notices the end of the session."""
        if self._connection is not None:
            with suppress(DBAPIError):
                self._connection.execute(_UNLOCK, {"key": self._key})
        self._drop()
        self._engine.dispose()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # closing the session frees the lock, come what may
            self._connection.close()
            self._connection = None


def _first_key(slug: str) -> int:
    """Return the initial key of a channel."""
    digest = hashlib.sha256(f"showmood channel {slug}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def channel_lock(engine: Engine, slug: str, holder: str) -> Iterator[ChannelLock]:
    """Hold the lock of a channel, on its own connection.

    holder: shown to other processes as the application name. Raise ChannelBusy, which names the
    holder, if it is taken; DatabaseUnreachable.
    """
    lock = ChannelLock(engine, slug, holder)
    try:
        lock.take()
        yield lock
    finally:
        lock.free()


def is_watched(connection: Connection, slug: str) -> bool:
    """Return whether a channel's lock is held; works without the right to see its session."""
    return any(may_write for _, may_write in _holders(connection, _key_of(connection, slug)))


def holder_of(connection: Connection, slug: str) -> str | None:
    """Return the name of the holder of a channel's lock."""
    holders = _holders(connection, _key_of(connection, slug))
    return next((name for name, may_write in holders if may_write), None)


def _key_of(connection: Connection, slug: str) -> int:
    """Return the channel's key; without the right to read it, the initial one."""
    key: int | None = None
    if connection.scalar(text("SELECT has_table_privilege('channel_locks', 'SELECT')")):
        key = connection.scalar(_KEY, {"slug": slug})
    return _first_key(slug) if key is None else key


_ATTEMPTS: Final = 10

_SESSION = text("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
# By its start too: the number may be another session's by now.
_END_SESSION = text(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE pid = :pid AND backend_start = :backend_start"
)

_KEY = text("SELECT key FROM channel_locks WHERE slug = :slug")
_MAKE_KEY = text(
    "INSERT INTO channel_locks (slug, key) SELECT :slug, :key"
    " WHERE NOT EXISTS (SELECT FROM channel_locks WHERE slug = :slug) ON CONFLICT DO NOTHING"
)
_NEW_KEY = text("UPDATE channel_locks SET key = :new WHERE slug = :slug AND key = :key")
_UNLOCK = text("SELECT pg_advisory_unlock(:key)")
_HOLDERS = text(
    "SELECT a.application_name, has_table_privilege(a.usesysid, 'channel_locks', 'INSERT')"
    " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.classid = :high AND l.objid = :low"
)


def _holders(connection: Connection, key: int) -> list[tuple[str | None, bool]]:
    """Return the holders of a key: name, and whether they may write."""
    unsigned = key & 0xFFFF_FFFF_FFFF_FFFF
    rows = connection.execute(_HOLDERS, {"high": unsigned >> 32, "low": unsigned & 0xFFFF_FFFF})
    return [((row[0] or "").removeprefix("showmood ") or None, bool(row[1])) for row in rows]
