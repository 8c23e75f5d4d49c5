"""The user for TCP connections to the embedded Postgres, with the rights of an analyst."""

from typing import Final

import psycopg2
from psycopg2 import sql
from sqlalchemy import URL

from db.embedded.cluster import DATABASE
from db.embedded.tcp import ADDRESS, READER
from db.roles import ANALYST, grant_roles

CONNECT_TIMEOUT_S: Final = 5


def reader_url(port: int, password: str) -> str:
    """Return the URL of the reader, for programs on this machine."""
    url = URL.create(
        "postgresql",
        username=READER,
        password=password,
        host=ADDRESS,
        port=port,
        database=DATABASE,
    )
    return url.render_as_string(hide_password=False)


def let_reader_in(owner_url: str, port: int, password: str) -> None:
    """Create the reader if it is missing, or set its password if it has another one.

    Raises DatabaseRefused, DatabaseUnreachable.
    """
    try:
        psycopg2.connect(reader_url(port, password), connect_timeout=CONNECT_TIMEOUT_S).close()
        return
    except psycopg2.OperationalError:
        pass
    grant_roles(owner_url)
    connection = psycopg2.connect(owner_url)
    try:
        with connection, connection.cursor() as cursor:
            # Serialises concurrent calls. Only the owner can take this lock, as migrations do.
            cursor.execute("LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE")
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (READER,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(
                        sql.Identifier(READER), sql.Identifier(ANALYST)
                    )
                )
            cursor.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(READER), sql.Literal(password)
                )
            )
    finally:
        connection.close()
