"""The way to the database: an engine, and the migrations."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Final

import psycopg2
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry

from db.errors import (
    BadDatabaseURL,
    DatabaseBusy,
    DatabaseError,
    DatabaseNotMigrated,
    DatabaseRefused,
    DatabaseTooNew,
    DatabaseUnreachable,
)

MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"
"""Alembic's script directory: beside this package, installed or not."""

CONNECT_TIMEOUT_S: Final = 10

KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 90_000,
}
"""A dead peer is noticed within a minute, and within 90 s by whoever waits for its answer (in ms):
keepalives are not sent while something is on its way. Longer than the database itself waits for the
session of a channel's lock (db/channel_lock.py): else the next connection would find the lock held
by the session that it follows."""

LOST: Final = ("08", "57P")
"""SQLSTATE classes of a lost connection: connection exception, server shutting down."""

REFUSED: Final = ("53", "58", "XX", "25006", "42501")
"""SQLSTATE of Postgres unable to write: out of a resource, an error of its disk (a full quota is an
internal one), read-only, no permission."""


def redact(url: str | URL) -> str:
    """Return the URL as it may be shown: any password in it is `***`."""
    if isinstance(url, URL):
        url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        url = url.replace("%2F", "/")
    shown = re.sub(r"(://[^/?#@:]*):.*@", r"\1:***@", url)
    return re.sub(r"((?:^|[?&\s])(?:ssl)?password=)[^&\s]*", r"\1***", shown)


def driver_url(url: str) -> URL:
    """Return the URL for SQLAlchemy with psycopg2, which newer versions no longer default to.

    Raise BadDatabaseURL unless it is one of Postgres.
    """
    try:
        parsed = make_url(re.sub(r"^postgres(?=[:+])", "postgresql", url.strip()))
    except (ArgumentError, ValueError) as error:
        raise BadDatabaseURL(
            f"'{redact(url)}' is no database URL: use postgresql://user:password@host:5432/database"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise BadDatabaseURL(
            f"'{redact(url)}' is not a Postgres URL: use postgresql://user:password@host:5432/name"
        )
    return parsed.set(drivername="postgresql+psycopg2")


def connection_defaults(url: URL, **told: object) -> dict[str, object]:
    """Return what libpq is told of a connection beside its URL, which goes first."""
    defaults = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVES, **told}
    return {name: value for name, value in defaults.items() if name not in url.query}


def make_engine(url: str, *, application_name: str = "showmood") -> Engine:
    """Return an engine whose sessions are in UTC; nothing is opened yet.

    When it can't connect it raises DatabaseUnreachable, which names the URL without its password.
    Raise BadDatabaseURL unless it is a Postgres URL.
    """
    parsed = driver_url(url)
    engine = create_engine(
        parsed,
        connect_args=connection_defaults(parsed, application_name=application_name),
        pool_pre_ping=True,
        json_serializer=partial(json.dumps, allow_nan=False),
    )

    @event.listens_for(engine, "connect")
    def _use_utc(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # As a statement, because poolers refuse it as a start-up option.
        cursor = connection.cursor()
        cursor.execute("SET timezone = 'UTC'")
        cursor.close()
        connection.commit()

    @event.listens_for(engine, "handle_error")
    def _say_unreachable(context: ExceptionContext) -> None:
        # A pooled connection that was cut while idle is replaced by the pool itself.
        if (
            not context.is_pre_ping
            and context.connection is None
            and isinstance(context.original_exception, psycopg2.OperationalError)
        ):
            raise unreachable(parsed, context.original_exception) from context.original_exception

    return engine


def unreachable(url: URL, error: BaseException) -> DatabaseUnreachable:
    """Return the error that says so, in one line, with libpq's last word on it."""
    said = " ".join(str(error).split()).rpartition("failed: ")[2] or type(error).__name__
    if url.password:
        said = said.replace(str(url.password), "***")
    return DatabaseUnreachable(
        f"can't reach the database {redact(url)}: {said} - is it running, "
        "and is SHOWMOOD_DATABASE_URL right?"
    )


def explain(url: URL, error: DBAPIError) -> DatabaseError | None:
    """Return this package's error for what the driver raised, if it is of the world's making."""
    code = getattr(error.orig, "pgcode", None) or ""
    said = (str(error.orig).strip().splitlines() or ["no words"])[0]
    if error.connection_invalidated or code.startswith(LOST):
        return unreachable(url, error.orig or error)
    if code in ("55P03", "40P01", "40001"):
        return DatabaseBusy(
            f"{redact(url)} is busy ({said}): another transaction is in the way, try again"
        )
    if code == "42501":
        return DatabaseRefused(
            f"{redact(url)}: {said}: this needs more than this user may do (docs/scale.md, roles)"
        )
    if code.startswith(REFUSED):
        return DatabaseRefused(f"{redact(url)} refused to write: {said}")
    return None


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for this database, from code and without a file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the tables to what the code expects; safe to run twice and by two at once.

    Raise DatabaseUnreachable, DatabaseTooNew, DatabaseBusy or DatabaseRefused.
    """
    parsed = driver_url(url)
    try:
        command.upgrade(alembic_config(url), revision)
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise _too_new(parsed) from error
        raise
    except DBAPIError as error:
        if (known := explain(parsed, error)) is not None:
            raise known from error
        raise


def require_current(engine: Engine) -> None:
    """Return if the tables are those the code expects.

    Raise DatabaseNotMigrated, DatabaseTooNew or DatabaseUnreachable.
    """
    scripts = ScriptDirectory.from_config(alembic_config(""))
    with engine.connect() as connection:
        have = MigrationContext.configure(connection).get_current_revision()
    if have == scripts.get_current_head():
        return
    if have is not None and have not in {script.revision for script in scripts.walk_revisions()}:
        raise _too_new(engine.url)
    state = "has no tables of ours" if have is None else "is older than this version"
    raise DatabaseNotMigrated(
        f"the database {redact(engine.url)} {state}: run `showmood db upgrade`"
    )


def require_readable(url: str) -> None:
    """Return if this version can read what is there, as far as the URL's user may know.

    An analyst's role reads the views, and not the table with the version. Raise as
    `require_current`.
    """
    engine = make_engine(url)
    try:
        require_current(engine)
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != "42501":
            raise
    finally:
        engine.dispose()


def _too_new(url: URL) -> DatabaseTooNew:
    return DatabaseTooNew(
        f"the database {redact(url)} is newer than this version: install a newer showmood "
        "(`showmood db upgrade` can't help here)"
    )
