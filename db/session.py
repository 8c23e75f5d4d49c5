"""Engine, connection errors and migrations of the database."""

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg2
from sqlalchemy import Engine, create_engine, event, text
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

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"
"""Alembic's script directory, next to this package, also when installed."""

CONNECT_TIMEOUT_S: Final = 10

KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's options: a dead peer is detected within a minute, and within 30 s while waiting for an
answer (`tcp_user_timeout`, in ms), because keepalives are not sent then."""

LOST: Final = ("08", "57P")
"""SQLSTATE classes of a lost connection: connection exception, server shutting down."""

REFUSED: Final = ("53", "58", "XX", "25006", "42501")
"""SQLSTATE prefixes of failed writes: insufficient resources, I/O errors (an exceeded quota is an
internal one), read-only, no permission."""

_REVISION: Final = re.compile(
    r"""^(revision|down_revision) = (?:["'](\w+)["']|None)$""", re.MULTILINE
)


def redact(url: str | URL) -> str:
    """Return the URL with any password replaced by `***`."""
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
            f"'{redact(url)}' is not a database URL: use "
            "postgresql://user:password@host:5432/database"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise BadDatabaseURL(
            f"'{redact(url)}' is not a Postgres URL: use postgresql://user:password@host:5432/name"
        )
    return parsed.set(drivername="postgresql+psycopg2")


def connection_defaults(url: URL, **options: object) -> dict[str, object]:
    """Return the options for libpq that the URL does not set."""
    defaults = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVES, **options}
    return {name: value for name, value in defaults.items() if name not in url.query}


def make_engine(url: str, *, application_name: str = "showmood", kept: int = 5) -> Engine:
    """Return an engine whose sessions use UTC, without connecting.

    kept: connections that stay open when idle; ten more are opened while they are needed.
    A failed connection raises DatabaseUnreachable with the URL without its password.
    Raise BadDatabaseURL unless it is a Postgres URL.
    """
    parsed = driver_url(url)
    engine = create_engine(
        parsed,
        connect_args=connection_defaults(parsed, application_name=application_name),
        pool_pre_ping=True,
        pool_size=kept,
        json_serializer=partial(json.dumps, allow_nan=False),
    )

    @event.listens_for(engine, "connect")
    def _use_utc(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # Not as a start-up option, which poolers refuse.
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
    """Return a DatabaseUnreachable, one line with libpq's message."""
    cause = " ".join(str(error).split()).rpartition("failed: ")[2] or type(error).__name__
    if url.password:
        cause = cause.replace(str(url.password), "***")
    return DatabaseUnreachable(
        f"can't reach the database {redact(url)}: {cause} - is it running, "
        "and is SHOWMOOD_DATABASE_URL right?"
    )


def explain(url: URL, error: DBAPIError) -> DatabaseError | None:
    """Return this package's error for an operational error of the driver; None for bugs."""
    code = getattr(error.orig, "pgcode", None) or ""
    cause = (str(error.orig).strip().splitlines() or ["no message"])[0]
    if error.connection_invalidated or code.startswith(LOST):
        return unreachable(url, error.orig or error)
    if code in ("55P03", "40P01", "40001"):
        return DatabaseBusy(
            f"{redact(url)} is busy ({cause}): another transaction holds a lock, try again"
        )
    if code == "42501":
        return DatabaseRefused(
            f"{redact(url)}: {cause}: this user lacks the right (docs/scale.md, roles)"
        )
    if code.startswith(REFUSED):
        return DatabaseRefused(f"{redact(url)} refused to write: {cause}")
    return None


def alembic_config(url: str) -> "Config":
    """Return Alembic's configuration for this database, without a file."""
    from alembic.config import Config  # imported here: 10 MB of memory that only migrations need

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the tables to the code's version; idempotent, safe to run concurrently.

    Raise DatabaseUnreachable, DatabaseTooNew, DatabaseBusy or DatabaseRefused.
    """
    from alembic import command
    from alembic.util import CommandError

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


def revisions() -> dict[str, str | None]:
    """Return the revision of each migration with the one before it, read without Alembic."""
    found: dict[str, str | None] = {}
    for file in (MIGRATIONS / "versions").glob("*.py"):
        names = dict(_REVISION.findall(file.read_text(encoding="utf-8")))
        if "revision" in names:
            found[names["revision"]] = names.get("down_revision") or None
    return found


def require_current(engine: Engine) -> None:
    """Check that the tables have the code's version.

    Raise DatabaseNotMigrated, DatabaseTooNew or DatabaseUnreachable.
    """
    before = revisions()
    with engine.connect() as connection:
        is_there = connection.scalar(text("SELECT to_regclass('alembic_version')")) is not None
        read = text("SELECT version_num FROM alembic_version")
        have = connection.scalar(read) if is_there else None
    if have in before.keys() - before.values():
        return
    if have is not None and have not in before:
        raise _too_new(engine.url)
    state = "has no tables of ours" if have is None else "is older than this version"
    raise DatabaseNotMigrated(
        f"the database {redact(engine.url)} {state}: run `showmood db upgrade`"
    )


def require_readable(url: str) -> None:
    """Check that this version can read the tables; passes if the user may not read the version.

    An analyst's role can read the views, but not the table of the version. Raise as
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
