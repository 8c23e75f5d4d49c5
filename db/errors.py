"""The errors of this package: each message is one line that says what to do.

DatabaseError
 +-- BadDatabaseURL        not a Postgres URL
 +-- DatabaseUnreachable   nobody answered there, or the connection was lost for good
 +-- DatabaseNotMigrated   the tables are missing or older than the code
 +-- DatabaseTooNew        the tables are newer than the code
 +-- DatabaseBusy          another transaction held a lock for too long
 +-- DatabaseRefused       Postgres could not write (disk full, read-only, no permission)
 +-- ChannelBusy           somebody else is watching this channel
 +-- ChannelLockLost       the connection that held a channel's lock is gone, and it is taken
 +-- UnknownChannel        no such channel in the database
 +-- MachineNameTaken      another machine has that name
 +-- TimeTaken             another broadcast of the channel has that time
 +-- EmbeddedError         the embedded server could not be set up, started or stopped
"""


class DatabaseError(Exception):
    """Root of this package's errors."""


class BadDatabaseURL(DatabaseError):
    """The URL is not one of a Postgres database."""


class DatabaseUnreachable(DatabaseError):
    """The database did not answer, or its connection was lost for good."""


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
        """Keep the holder of the channel, where Postgres knows it."""
        super().__init__(message)
        self.holder = holder


class ChannelLockLost(DatabaseError):
    """The connection that held a channel's lock is gone, and another process has the lock."""


class UnknownChannel(DatabaseError):
    """No such channel in the database."""


class MachineNameTaken(DatabaseError):
    """Another machine has that name."""


class TimeTaken(DatabaseError):
    """Another broadcast of the channel has that time."""


class EmbeddedError(DatabaseError):
    """The embedded server could not be set up, started or stopped."""
