"""Segments' copies in an object store: recording, listing and removing their keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import String

_NAME: Final = "substring(path FROM '[^/]*$')"

_COPIED = text(
    "SELECT substring(object_key FROM '[^/]*$') FROM segments WHERE broadcast_id = :broadcast"
    " AND object_key IS NOT NULL"
)
_RECORD = text(
    "UPDATE segments SET object_key = :key, size_bytes = :size, sha256 = :sha256"
    f" WHERE broadcast_id = :broadcast AND {_NAME} = :name"
)
_FORGET = text(
    "UPDATE segments SET object_key = NULL, size_bytes = NULL, sha256 = NULL"
    " WHERE object_key = ANY(:keys)"
).bindparams(bindparam("keys", type_=ARRAY(String)))

_MAY_GO: Final = (
    " FROM segments s WHERE object_key IS NOT NULL AND status <> 'recorded'"
    " AND NOT EXISTS (SELECT FROM kept k WHERE k.channel_id = s.channel_id"
    " AND k.started_at < s.ended_at AND k.ended_at > s.started_at)"
)
_OLDEST = text(
    f"SELECT object_key, started_at, coalesce(size_bytes, 0) AS size_bytes{_MAY_GO}"
    " ORDER BY started_at LIMIT :most"
)
_TOTAL = text(
    "SELECT coalesce(sum(size_bytes), 0) FROM"
    " (SELECT DISTINCT object_key, size_bytes FROM segments WHERE object_key IS NOT NULL) o"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRow:
    """A segment's copy."""

    object_key: str
    started_at: datetime
    size_bytes: int


def copied(connection: Connection, broadcast_id: int) -> set[str]:
    """Return the names of a broadcast's files that have a copy."""
    return set(connection.scalars(_COPIED, {"broadcast": broadcast_id}))


def record_copy(
    connection: Connection, broadcast_id: int, name: str, *, key: str, size: int, sha256: str
) -> bool:
    """Record the key of a file's copy; return whether the file has a row."""
    values = {"broadcast": broadcast_id, "name": name, "key": key, "size": size, "sha256": sha256}
    return connection.execute(_RECORD, values).rowcount > 0


def oldest_copies(connection: Connection, most: int) -> Sequence[ObjectRow]:
    """Return the oldest copies that may be deleted: analysed, and not kept."""
    return [ObjectRow(**row._mapping) for row in connection.execute(_OLDEST, {"most": most})]


def total_bytes(connection: Connection) -> int:
    """Return the total size of the copies."""
    return int(connection.scalar(_TOTAL) or 0)


def forget_copies(connection: Connection, keys: Sequence[str]) -> int:
    """Record that copies were deleted; return the number of updated rows."""
    return connection.execute(_FORGET, {"keys": list(keys)}).rowcount
