"""Converts a database's URL to the formats of other programs."""

from typing import Final, Literal, get_args
from urllib.parse import quote, urlencode

from db.errors import BadDatabaseURL
from db.session import driver_url

Program = Literal["psycopg", "sqlalchemy", "jdbc", "duckdb"]
PROGRAMS: Final = get_args(Program)


def address_for(url: str, program: Program) -> str:
    """Return the address of a database for a program, with its password.

    psycopg: the URL of libpq. sqlalchemy: with its driver. jdbc: also for DBeaver. duckdb: the
    ATTACH statement. Raises BadDatabaseURL for JDBC with a Unix socket.
    """
    parsed = driver_url(url)
    if program == "sqlalchemy":
        return parsed.render_as_string(hide_password=False)
    if program == "psycopg":
        return parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    query = {name: str(value) for name, value in parsed.query.items()}
    host = parsed.host or query.pop("host", "localhost")
    port = parsed.port or query.pop("port", 5432)
    user = {"user": parsed.username} if parsed.username else {}
    password = {"password": str(parsed.password)} if parsed.password else {}
    if program == "duckdb":
        parts = {"host": host, "port": port, **user, **password, "dbname": parsed.database, **query}
        words = " ".join(f"{name}={_quoted(str(value))}" for name, value in parts.items() if value)
        return "ATTACH '{}' AS showmood (TYPE postgres, READ_ONLY);".format(
            words.replace("'", "''")
        )
    if host.startswith("/"):
        raise BadDatabaseURL(
            "JDBC can't use a socket, and this database has no TCP port: set "
            "SHOWMOOD_DATABASE_PORT, and restart showmood up"
        )
    named = f"[{host}]" if ":" in host else host
    rest = urlencode({**user, **password, **query}, quote_via=quote)
    return f"jdbc:postgresql://{named}:{port}/{quote(parsed.database or '')}?{rest}"


def _quoted(value: str) -> str:
    """Return a value, quoted if necessary for libpq's connection strings."""
    if value.replace("/", "").replace(".", "").replace("_", "").replace("-", "").isalnum():
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
