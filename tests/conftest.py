"""A real Postgres for every test that asks: one server a process, one database a test.

And for the tests of the whole, a stack as `showmood up` keeps it.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from sqlalchemy import Engine

from benchmarks.up import SEGMENT_S, Up, free_port, until
from db.embedded.server import EmbeddedPostgres
from db.session import make_engine, upgrade
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme

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

    @contextmanager
    def with_password(self, role: str, secret: str) -> Iterator[str]:
        """Give the URL of an empty database whose owner has to say a password."""
        connection = psycopg2.connect(self.server.url)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SHOW hba_file")
            ((path,),) = cursor.fetchall()
            rules, file = Path(path).read_text(), Path(path)
            cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", (secret,))
            cursor.execute(f"CREATE DATABASE of_{role} OWNER {role}")
            file.write_text(f"local all {role} scram-sha-256\n{rules}")
            cursor.execute("SELECT pg_reload_conf()")
            try:
                place = f"@/of_{role}?"
                yield self.server.url.replace(
                    "showmood@/showmood?", f"{role}:{quote(secret, '')}{place}"
                )
            finally:
                file.write_text(rules)
                cursor.execute("SELECT pg_reload_conf()")
                cursor.execute(f"DROP DATABASE of_{role} WITH (FORCE)")
                cursor.execute(f"DROP ROLE {role}")


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


# -- whom processes connect to

LISTENER = """
import os, sys

def hear(event, args):
    if event == "socket.connect":
        address = args[1]
    elif event == "socket.getaddrinfo":
        address = args[:2]
    else:
        return
    host = address[0] if isinstance(address, tuple) else None
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0"):
        with open(os.environ["HEARD_OF"], "a") as log:
            log.write(f"{event} {address} by {sys.argv}\\n")

sys.addaudithook(hear)
"""


def listening(directory: Path) -> dict[str, str]:
    """Return an environment whose Pythons write into `directory`/connections.log whom they reach,
    or look up, but for this machine.
    """
    site = directory / "listener"
    site.mkdir()
    (site / "sitecustomize.py").write_text(LISTENER)
    return {"PYTHONPATH": str(site), "HEARD_OF": str(directory / "connections.log")}


@pytest.fixture(scope="session")
def heard_of() -> Callable[[Path], dict[str, str]]:
    """`listening`, for whoever needs no stack."""
    return listening


# -- a stack that `showmood up` keeps, for the tests of the whole


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest: else one worker ends with it, and the other idles."""
    items.sort(key=lambda item: item.path.name != "test_healing.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how much memory the worst of the hostile inputs took."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    told = [value for each in reports for name, value in each.user_properties if name == "hostile"]
    if told:
        name, mb = max(told, key=lambda each: each[1])
        terminalreporter.write_line(
            f"{len(told)} hostile inputs; most memory: {mb:.0f} MB ({name})"
        )


@pytest.fixture(scope="session", name="until")
def the_until() -> Callable[..., Any]:
    """`until`, for whoever needs no stack."""
    return until


@pytest.fixture(scope="session", name="free_port")
def the_free_port() -> Callable[[], int]:
    """`free_port`, for whoever needs no stack."""
    return free_port


@pytest.fixture(scope="session")
def start_up() -> Callable[..., AbstractContextManager[Up]]:
    """What starts `showmood up` in a home folder, with more settings if given; stopped on exit."""

    @contextmanager
    def start(home: Path, **env: str) -> Iterator[Up]:
        with ExitStack() as stack:
            programme = make_programme(home / "programme.mp4", duration_s=24)
            origin = stack.enter_context(LiveOrigin(programme, segment_s=SEGMENT_S))
            up = Up(home, origin, listening(home) | env)
            stack.callback(up.api.close)
            stack.callback(up.stop)
            yield up
        heard = home / "connections.log"
        assert not heard.exists(), f"somebody was told: {heard.read_text()}"

    return start
