"""Run by Alembic, from the command line or from `db.session`.

One migration at a time (a lock on Alembic's own table, which only its owner can take), all
revisions in one transaction, and with a `lock_timeout`, so that it does not queue behind a long
query and block all others.
"""

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from db.session import driver_url, unreachable
from db.tables.machines import Base

WAIT_FOR_OTHERS = "120s"
LOCK_TIMEOUT = "10s"
"""Default; the caller can override it with the attribute `lock_timeout`."""


def database_url() -> str:
    """Return the URL from the caller, else from the environment."""
    url = context.config.attributes.get("url") or os.environ.get("SHOWMOOD_DATABASE_URL")
    if not url:
        raise CommandError("set SHOWMOOD_DATABASE_URL to the database to migrate")
    return str(url)


def run(connection: Connection) -> None:
    """Migrate over this connection."""
    # Monthly partitions are data, not part of the schema.
    partitions = set(
        connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")).all()
    )
    connection.rollback()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        include_name=lambda name, kind, _: not (kind == "table" and name in partitions),
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_FOR_OTHERS}'"))
        wait_for_others(connection)
        limit = context.config.attributes.get("lock_timeout", LOCK_TIMEOUT)
        connection.execute(text(f"SET LOCAL lock_timeout = '{limit}'"))
        context.run_migrations()


def wait_for_others(connection: Connection) -> None:
    """Take the lock of migrations; without the right to take it there is none to migrate."""
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        try:
            with connection.begin_nested():  # as Alembic makes it
                connection.execute(
                    text(
                        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
                        " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
                    )
                )
        except (ProgrammingError, IntegrityError) as error:  # another was quicker
            if getattr(error.orig, "pgcode", None) not in ("42P07", "23505"):
                raise
    if connection.scalar(text("SELECT has_table_privilege('alembic_version', 'UPDATE')")):
        connection.execute(text("LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE"))


def main() -> None:
    """Connect and run, or print the SQL (`alembic upgrade head --sql`)."""
    if context.is_offline_mode():
        context.configure(
            dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    url = driver_url(database_url())
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise unreachable(url, error.orig or error) from error
    with connection:
        run(connection)


main()
