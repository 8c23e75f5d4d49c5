"""Machines that watch shows: names, heartbeats, and their backlog of copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from db.errors import MachineNameTaken

SEEN_WITHIN: Final = timedelta(minutes=2)
"""Time since its last heartbeat within which a machine counts as online."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine. uploads: files waiting to be copied; upload_since: end of the oldest one.

    is_there: online, by the database's clock, because a machine's own may be wrong.
    """

    name: str
    disk: str
    version: str
    seen_at: datetime
    is_there: bool
    uploads: int | None = None
    upload_bytes: int | None = None
    upload_since: datetime | None = None
    upload_error: str | None = None

    @property
    def copying(self) -> str | None:
        """Return a summary of the backlog of copies; None without an object store."""
        if self.uploads is None:
            return None
        return summary_of_copies(
            self.uploads, self.upload_bytes or 0, self.upload_since, self.upload_error
        )


def summary_of_copies(files: int, n_bytes: int, since: datetime | None, error: str | None) -> str:
    """Return a one-line summary of the files waiting to be copied to the object store."""
    if not files:
        return "all recordings are copied"
    age_s = (datetime.now(UTC) - since).total_seconds() if since else 0.0
    summary = f"{files} recorded files ({n_bytes / 1e6:.0f} MB) wait to be copied"
    summary += f", the oldest for {age_s:.0f} s"
    return f"{summary}: {error}" if error else summary


# Serialises machines that start at the same time; does not block readers.
_LOCK = text("LOCK TABLE machines IN SHARE ROW EXCLUSIVE MODE")
_SEEN = text(
    "INSERT INTO machines (name, disk, version, seen_at) VALUES (:name, :disk, :version, now())"
    " ON CONFLICT (name) DO UPDATE SET disk = excluded.disk, version = excluded.version,"
    " seen_at = excluded.seen_at"
)
_UPLOADS = text(
    "UPDATE machines SET uploads = :uploads, upload_bytes = :bytes, upload_since = :since,"
    " upload_error = :error, seen_at = now() WHERE name = :name"
)
_MACHINES = text(
    "SELECT name, disk, version, seen_at, seen_at > now() - :within AS is_there, uploads,"
    " upload_bytes, upload_since, upload_error FROM machines ORDER BY name"
)
_LEFT = text("UPDATE machines SET seen_at = least(seen_at, now() - :within) WHERE disk = :disk")
_RENAMED = text("UPDATE segments SET machine = :new WHERE machine = :old AND path IS NOT NULL")
_BEHIND = text(
    "SELECT max(s.lag_ms) FROM broadcasts b JOIN segments s ON s.broadcast_id = b.id"
    " AND s.started_at > now() - interval '1 minute'"
    " WHERE b.status = 'live' AND s.machine = :name"
)


def register(connection: Connection, *, name: str, disk: str, version: str) -> str | None:
    """Register a machine; return a message for the user if its name or disk has changed.

    disk: unique id of its home folder. Raises MachineNameTaken if another machine with
    this name, or with a copy of this home folder, is online.
    """
    connection.execute(_LOCK)
    known = machines(connection)
    message: str | None = None
    same = next((each for each in known if each.name == name), None)
    if same is not None and same.disk != disk:
        if same.is_there:
            raise MachineNameTaken(
                f"another machine is called {name}, and was seen at {same.seen_at:%H:%M:%S} UTC: "
                "set SHOWMOOD_MACHINE to another name for this one"
            )
        message = f"{name} had another disk before: recordings of its rows may be missing here"
    former = next((each for each in known if each.disk == disk and each.name != name), None)
    if former is not None and former.is_there:
        raise MachineNameTaken(
            f"{former.name} has the same disk-id as {name}, and was seen at "
            f"{former.seen_at:%H:%M:%S} UTC: if SHOWMOOD_HOME was copied, delete its file "
            "disk-id here; if this machine was renamed, wait two minutes"
        )
    if former is not None:
        n_rows = connection.execute(_RENAMED, {"new": name, "old": former.name}).rowcount
        connection.execute(text("DELETE FROM machines WHERE name = :name"), {"name": former.name})
        message = f"this machine was called {former.name}: {n_rows} recordings are now {name}'s"
    connection.execute(_SEEN, {"name": name, "disk": disk, "version": version})
    return message


def leave(connection: Connection, disk: str) -> None:
    """Mark a machine as offline."""
    connection.execute(_LEFT, {"disk": disk, "within": SEEN_WITHIN})


def note_uploads(
    connection: Connection,
    name: str,
    *,
    files: int,
    n_bytes: int,
    since: datetime | None,
    error: str | None,
) -> None:
    """Record a machine's backlog of copies to the object store, and the last error."""
    values = {"uploads": files, "bytes": n_bytes, "since": since, "error": error}
    connection.execute(_UPLOADS, values | {"name": name})


def machines(connection: Connection) -> Sequence[Machine]:
    """Return all known machines, by name."""
    return [
        Machine(**row._mapping) for row in connection.execute(_MACHINES, {"within": SEEN_WITHIN})
    ]


def behind_ms(connection: Connection, name: str) -> int | None:
    """Return the largest lag of a machine's newest segments in ms; None if it watches nothing."""
    lag: int | None = connection.scalar(_BEHIND, {"name": name})
    return lag


def installation(connection: Connection) -> str:
    """Return the unique id of this history."""
    return str(connection.scalar(text("SELECT id FROM installation")))
