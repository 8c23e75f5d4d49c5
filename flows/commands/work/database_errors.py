"""Postgres's errors as one line, for every command."""

from sqlalchemy.exc import DBAPIError

from db.session import driver_url, explain
from flows.settings import load_settings


def explained(error: Exception) -> Exception | None:
    """Return the error that explains it in a line; None for a bug."""
    if not isinstance(error, DBAPIError):
        return None
    return explain(driver_url(load_settings().database_url or "postgresql:///showmood"), error)
