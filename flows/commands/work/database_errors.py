"""Turns Postgres's errors into one line, for every command."""

from sqlalchemy.exc import DBAPIError

from db.session import driver_url, explain
from flows.settings import load_settings


def explained(error: Exception) -> Exception | None:
    """Return an error with a one-line explanation; None if it is a bug."""
    if not isinstance(error, DBAPIError):
        return None
    return explain(driver_url(load_settings().database_url or "postgresql:///showmood"), error)
