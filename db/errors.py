"""The errors of this package: each message is one line with cause and remedy.

DatabaseError
 +-- BadDatabaseURL        not a Postgres URL
 +-- DatabaseUnreachable   no answer, or the connection was lost and could not be restored
 +-- DatabaseNotMigrated   the tables are missing or older than the code
 +-- DatabaseTooNew        the tables are newer than the code
 +-- DatabaseBusy          another transaction held a lock for too long
 +-- DatabaseRefused       Postgres could not write (disk full, read-only, no permission)
 +-- ChannelBusy           another process is watching this channel
 +-- ChannelLockLost       the connection with a channel's lock was lost, and another holds the lock
 +-- UnknownChannel        no such channel in the database
 +-- MachineNameTaken      another machine has that name
 +-- TimeTaken             another broadcast of the channel overlaps that time
 +-- EmbeddedError         the embedded server could not be set up, started or stopped
"""


class DatabaseError(Exception):
    """Root of this package's errors."""


class BadDatabaseURL(DatabaseError):
    """The URL is not one of a Postgres database."""


class DatabaseUnreachable(DatabaseError):
    """The database did not answer, or its connection could not be restored."""


class DatabaseNotMigrated(DatabaseError):
    """The database's tables are missing or older than the code."""


class DatabaseTooNew(DatabaseError):
    """The database's tables are newer than the code."""


class DatabaseBusy(DatabaseError):
    """Another transaction held a lock for too long."""


class DatabaseRefused(DatabaseError):
    """Postgres could not write: disk full, read-only, no permission."""


class ChannelBusy(DatabaseError):
    """Another process is watching this channel."""

    def __init__(self, message: str, *, holder: str | None) -> None:
        """Store message and holder; holder: None if Postgres does not show it."""
        super().__init__(message)
        self.holder = holder


class ChannelLockLost(DatabaseError):
    """The connection with a channel's lock was lost, and another process holds the lock."""

    def __init__(self, message: str, *, holder: str | None) -> None:
        """Store message and holder; holder: None if Postgres does not show it."""
        super().__init__(message)
        self.holder = holder


class UnknownChannel(DatabaseError):
    """No such channel in the database."""


class MachineNameTaken(DatabaseError):
    """Another machine has that name."""


class TimeTaken(DatabaseError):
    """Another broadcast of the channel overlaps that time."""


class EmbeddedError(DatabaseError):
    """The embedded server could not be set up, started or stopped."""
