"""Roles to give to people and programs: one that reads the views, and one that writes the history.

They can't log in themselves: `GRANT showmood_analyst TO somebody` makes somebody an analyst. Roles
belong to the server and their rights to one database, so each database is asked for its own.
"""

from typing import Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.errors import DatabaseRefused
from db.models_of_machines import Base
from db.session import driver_url, explain, make_engine, redact, require_current, unreachable

ANALYST: Final = "showmood_analyst"
WRITER: Final = "showmood_writer"

VIEWS: Final = (
    "advertisements",
    "coverage",
    "emotion_history",
    "emotion_long",
    "emotion_seconds",
    "emotion_timeline",
    "kept_recordings",
    "show_frames",
    "show_gaps",
    "show_seconds",
    "show_segments",
    "show_shots",
    "show_summary",
    "shows",
    "track_summary",
)
"""All that an analyst may read."""

QUESTIONS: Final = (
    "emotion_around(text, timestamptz, interval, interval)",
    "emotion_between(text, timestamptz, timestamptz, interval, text)",
    "emotion_newest(text, integer)",
)

PARTITIONS: Final = ("observations_partition(timestamptz)", "observations_drop(timestamptz)")
"""They act with their owner's rights: who may write need not own the tables."""

# Two may do this at once, on two databases of one server.
_CREATE = (
    "DO $$BEGIN CREATE ROLE {role} NOLOGIN;"
    " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END$$"
)

_OWNS = text(
    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'observations'::regclass"
)

_MAY_NOT: Final = (
    "{url}: this user may not make roles or grant rights: run this as the tables' owner with "
    "CREATEROLE, or have an administrator run it"
)


def grant_roles(url: str) -> None:
    """Make the roles that are missing, and give both their rights here; again is harmless.

    Raise DatabaseUnreachable, DatabaseNotMigrated, DatabaseTooNew, or DatabaseRefused if this user
    may not make roles.
    """
    current = make_engine(url)
    try:
        require_current(current)
    finally:
        current.dispose()
    engine = create_engine(driver_url(url), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            _grant(connection)
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code is None:
            raise unreachable(engine.url, error.orig or error) from error
        if code == "42501":
            raise DatabaseRefused(_MAY_NOT.format(url=redact(engine.url))) from error
        if (known := explain(engine.url, error)) is not None:
            raise known from error
        raise


def _grant(connection: Connection) -> None:
    quote = connection.dialect.identifier_preparer.quote
    schema = quote(str(connection.scalar(text("SELECT current_schema()"))))
    if not connection.scalar(_OWNS):  # Postgres would only warn
        raise DatabaseRefused(_MAY_NOT.format(url=redact(connection.engine.url)))
    there = set(
        connection.scalars(
            text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)"),
            {"names": [ANALYST, WRITER]},
        )
    )
    for role in (ANALYST, WRITER):
        if role not in there:
            connection.execute(text(_CREATE.format(role=role)))
    tables = ", ".join(table for table in Base.metadata.tables)
    both, views = f"{ANALYST}, {WRITER}", ", ".join(VIEWS)
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {both}",
        f"GRANT SELECT ON {views} TO {both}",
        f"GRANT EXECUTE ON FUNCTION {', '.join(QUESTIONS)} TO {both}",
        f"GRANT SELECT ON alembic_version TO {both}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {WRITER}",
        f"GRANT EXECUTE ON FUNCTION {', '.join(PARTITIONS)} TO {WRITER}",
    ):
        connection.execute(text(statement))
