"""Roles for people and programs: one that reads the views, and one that writes the history.

An analyst cannot create objects: no temporary tables, no functions, no large objects.
Time limits, which members do not inherit from a role in Postgres, are set when a member logs in.

The roles have no login: `GRANT showmood_analyst TO somebody` makes somebody an analyst. Roles
belong to the server and their rights to one database, so each database grants its own.
"""

import logging
from typing import Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.pool import NullPool

from db.errors import DatabaseRefused
from db.session import (
    connection_defaults,
    driver_url,
    explain,
    make_engine,
    redact,
    require_current,
    unreachable,
)
from db.tables.machines import Base

_log = logging.getLogger(__name__)

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
"""Views that analysts can read."""

FUNCTIONS: Final = (
    "emotion_around(text, timestamptz, interval, interval)",
    "emotion_between(text, timestamptz, timestamptz, interval, text)",
    "emotion_newest(text, integer)",
)

PARTITIONS: Final = ("observations_partition(timestamptz)", "observations_drop(timestamptz)")
"""Functions with their owner's rights, so that writers need not own the tables."""

LOGIN_TRIGGERS: Final = 17_00_00
_VERSION = text("SELECT current_setting('server_version_num')::integer")

# May run concurrently, on two databases of one server.
_CREATE = (
    "DO $$BEGIN CREATE ROLE {role} NOLOGIN;"
    " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END$$"
)

_OWNS = text(
    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'observations'::regclass"
)

LIMITS: Final = {
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "8h",
}
"""Initial time limits of an analyst's sessions; each session can change them."""

_SET_LIMITS: Final = ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in LIMITS.items()
)

# Must never make a login fail.
_AT_LOGIN: Final = f"""
CREATE OR REPLACE FUNCTION analyst_limits() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF pg_has_role(session_user, '{ANALYST}', 'MEMBER')
        AND NOT pg_has_role(session_user, '{WRITER}', 'MEMBER')
    THEN
        PERFORM {_SET_LIMITS};
    END IF;
EXCEPTION WHEN OTHERS THEN NULL;
END $$
"""

_MEMBERS = text(
    "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper"
    f" AND pg_has_role(oid, '{ANALYST}', 'MEMBER') AND NOT pg_has_role(oid, '{WRITER}', 'MEMBER')"
)

_LARGE_OBJECTS: Final = (
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_open(oid, integer)",
    "lo_unlink(oid)",
)

_MAY_NOT: Final = (
    "{url}: this user may not create roles or grant rights: run this as the tables' owner with "
    "CREATEROLE, or have an administrator run it"
)


def grant_roles(url: str) -> None:
    """Create missing roles, and grant both their rights in this database; idempotent.

    Raise DatabaseUnreachable, DatabaseNotMigrated, DatabaseTooNew, or DatabaseRefused if this user
    may not create roles.
    """
    current = make_engine(url)
    try:
        require_current(current)
    finally:
        current.dispose()
    parsed = driver_url(url)
    engine = create_engine(parsed, connect_args=connection_defaults(parsed), poolclass=NullPool)
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
        f"GRANT EXECUTE ON FUNCTION {', '.join(FUNCTIONS)} TO {both}",
        f"GRANT SELECT ON alembic_version TO {both}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {WRITER}",
        f"GRANT EXECUTE ON FUNCTION {', '.join(PARTITIONS)} TO {WRITER}",
    ):
        connection.execute(text(statement))
    _revoke_public(connection, schema)
    _limit_analysts(connection)


def _revoke_public(connection: Connection, schema: str) -> None:
    """Revoke rights of PUBLIC that only the owner needs, as far as this user may."""
    database = connection.dialect.identifier_preparer.quote(
        str(connection.scalar(text("SELECT current_database()")))
    )
    for statement in (
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
    ):
        connection.execute(text(statement))  # Postgres only warns users who own neither
    if _is_superuser(connection):
        functions = ", ".join(_LARGE_OBJECTS)
        connection.execute(text(f"REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC"))


def _limit_analysts(connection: Connection) -> None:
    """Limit the sessions of members; of future ones too, if this user may create a trigger."""
    if _is_superuser(connection) and connection.scalar(_VERSION) >= LOGIN_TRIGGERS:
        connection.execute(text(_AT_LOGIN))
        connection.execute(text("REVOKE ALL ON FUNCTION analyst_limits() FROM PUBLIC"))
        connection.execute(text("DROP EVENT TRIGGER IF EXISTS analyst_limits"))
        connection.execute(
            text("CREATE EVENT TRIGGER analyst_limits ON login EXECUTE FUNCTION analyst_limits()")
        )
        return
    quote = connection.dialect.identifier_preparer.quote
    database = quote(str(connection.scalar(text("SELECT current_database()"))))
    for member in connection.scalars(_MEMBERS).all():
        try:
            with connection.begin_nested():
                for name, value in LIMITS.items():
                    connection.execute(
                        text(
                            f"ALTER ROLE {quote(member)} IN DATABASE {database}"
                            f" SET {name} = '{value}'"
                        )
                    )
        except ProgrammingError as error:
            code = getattr(error.orig, "pgcode", None)
            if code == "42704":  # the role was dropped
                continue
            if code != "42501":
                raise
            _log.warning("this user may not limit the sessions of %s", member)


def _is_superuser(connection: Connection) -> bool:
    return bool(connection.scalar(text("SELECT current_setting('is_superuser') = 'on'")))
