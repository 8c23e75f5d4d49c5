"""The database for commands that only read: an existing one, never a new one."""

from contextlib import ExitStack

from db.embedded.server import EmbeddedPostgres
from db.session import require_readable
from flows.errors import UsageError
from flows.settings import Settings
from flows.stack.processes.postgres import database


def existing_database(settings: Settings, stack: ExitStack) -> str:
    """Return the URL of the existing database; an embedded one is started for `stack`.

    Raises UsageError, which says where it looked, when there is none; db.errors.DatabaseError when
    it does not answer, or its tables are of another version.
    """
    if settings.database_url is not None:
        require_readable(settings.database_url)
        return settings.database_url
    if not EmbeddedPostgres(settings.home / "postgres").exists:
        raise UsageError(
            f"no history in {settings.home}: watch or analyse something first (showmood demo), "
            "name another folder with SHOWMOOD_HOME, or a database with SHOWMOOD_DATABASE_URL"
        )
    return database(settings, stack)
