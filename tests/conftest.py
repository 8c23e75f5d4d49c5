"""A real Postgres for every test that asks: one server a process, one database a test."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine

from db.embedded import EmbeddedPostgres
from db.session import make_engine, upgrade

_numbers = itertools.count()


class Databases:
    """Makes and drops databases on one server."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server

    def url(self, name: str) -> str:
        return self.server.url.replace("/showmood?", f"/{name}?", 1)

    def run(self, statement: str) -> None:
        connection = psycopg2.connect(self.server.url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def create(self, *, template: str | None = None) -> str:
        name = f"test_{next(_numbers)}"
        copied = f" TEMPLATE {template}" if template else ""
        self.run(f"CREATE DATABASE {name}{copied}")
        return name

    def drop(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A server of this test process's own, which dies with it."""
    # Not below pytest's own directory: that is closed to others, the server's OS user included.
    directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(
        directory / "pg", open_dir=directory / "open", die_with_owner=True, durable=False
    )
    try:
        with server:
            yield Databases(server)
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    """The name of a database that was migrated from zero, to copy."""
    name = databases.create()
    upgrade(databases.url(name))
    return name


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """The URL of an empty database."""
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def database_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """The URL of a migrated database without rows."""
    name = databases.create(template=migrated_template)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    made = make_engine(database_url)
    yield made
    made.dispose()
