"""The page's database connections: as an analyst, read-only, never blocking writers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from db.errors import DatabaseBusy, DatabaseError, DatabaseNotMigrated
from db.roles import ANALYST
from db.session import explain, make_engine, redact

STATEMENT_TIMEOUT_S: Final = 8.0
LOCK_TIMEOUT_S: Final = 1.0

_TOO_SLOW: Final = "57014"
"""SQLSTATE of a statement cancelled by its timeout."""

_OTHER_SCHEMA: Final = ("42P01", "42703", "42883")
"""SQLSTATE of a missing table, column or function."""


class Reader:
    """Reads views, as an analyst if that role exists; can't write in either case.

    timeout_s: of each statement.
    """

    def __init__(self, url: str, *, timeout_s: float = STATEMENT_TIMEOUT_S) -> None:
        """Open nothing yet; raises BadDatabaseURL."""
        self.engine: Engine = make_engine(url, application_name="showmood page")
        self._timeout_ms = round(timeout_s * 1000)
        event.listen(self.engine, "connect", self._set_up)

    def _set_up(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = {self._timeout_ms}")
        cursor.execute(f"SET lock_timeout = {round(LOCK_TIMEOUT_S * 1000)}")
        # An unused index costs a year of a channel seconds of compiling otherwise.
        cursor.execute("SET jit = off")
        cursor.execute("SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = %s"
            " AND has_table_privilege(oid, to_regclass('shows'), 'SELECT')",
            (ANALYST,),
        )
        found = cursor.fetchone()
        if found and found[0]:
            cursor.execute(f"SET ROLE {ANALYST}")
        cursor.close()
        connection.commit()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection; raises one of DatabaseError for expected errors."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            code = getattr(error.orig, "pgcode", None)
            if code == _TOO_SLOW:
                raise DatabaseBusy(
                    f"the database took more than {self._timeout_ms / 1000:.0f} s for this: "
                    "choose a shorter time, or try again"
                ) from error
            if code in _OTHER_SCHEMA:
                raise DatabaseNotMigrated(
                    f"the database {redact(self.engine.url)} is not of this version: "
                    "run `showmood db upgrade`"
                ) from error
            known = explain(self.engine.url, error)
            raise known or DatabaseError(f"database error: {error.orig}".strip()) from error

    @contextmanager
    def connect_to_tables(self) -> Iterator[Connection]:
        """Yield a read-only connection with the rights of the user in the URL: exports need tables.

        Raises DatabaseRefused where those are an analyst's, and one of DatabaseError.
        """
        with self.connect() as connection:
            connection.execute(text("SET LOCAL ROLE NONE"))
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a transaction that may write, with the rights of the user in the URL.

        Raises DatabaseRefused where those are an analyst's, and one of DatabaseError.
        """
        try:
            with self.engine.begin() as connection:
                connection.execute(text("SET LOCAL ROLE NONE"))
                connection.execute(text("SET TRANSACTION READ WRITE"))
                yield connection
        except DBAPIError as error:
            known = explain(self.engine.url, error)
            raise known or DatabaseError(f"database error: {error.orig}".strip()) from error

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
