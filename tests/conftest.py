"""Shared fixtures: a real Postgres (one server per process, one database per test), a clock, and a
stack of `showmood up` for end-to-end tests.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from filelock import FileLock
from sqlalchemy import Engine
from xdist.scheduler import LoadFileScheduling

from benchmarks.origin.testcard import make_testcard
from benchmarks.up import SEGMENT_S, Up, free_port, until
from db.embedded.server import EmbeddedPostgres
from db.session import make_engine, upgrade
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.settings import Settings

_numbers = itertools.count()

# Settings of the environment must not affect the tests.
for _name in [*os.environ]:
    if _name.startswith("PREFECT_") or _name in {
        f"SHOWMOOD_{each.upper()}" for each in Settings.model_fields
    }:
        del os.environ[_name]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the umask after each test, because commands change it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


SCHEMA = """
SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
    SELECT (oid, relname, relkind, relowner, relacl, reloptions, relispartition)::text
    FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT (attrelid, attname, atttypid, attnum, attnotnull, atthasdef, attacl)::text
    FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT (oid, conname, convalidated)::text FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT (oid, proname, prosrc, proacl)::text FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT (indexrelid, indisvalid, indisready)::text FROM pg_index
    WHERE indexrelid >= 16384
    UNION ALL SELECT (oid, tgname, tgenabled)::text FROM pg_trigger WHERE oid >= 16384
    UNION ALL SELECT (oid, nspname, nspacl)::text FROM pg_namespace
    WHERE nspname !~ '^pg_(temp|toast_temp)'
    UNION ALL SELECT (oid, extname)::text FROM pg_extension
    UNION ALL SELECT (setrole, setconfig)::text FROM pg_db_role_setting s
    JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()
    UNION ALL SELECT (datname = current_database(), datacl, datallowconn, datconnlimit)::text
    FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT (oid, defaclacl)::text FROM pg_default_acl
    UNION ALL SELECT version_num FROM alembic_version
) lines(line)
"""
"""Statement that describes the schema of a database, without its rows."""

LATER_PARTITIONS = """
SELECT inhrelid::regclass FROM pg_inherits
JOIN pg_class parent ON parent.oid = inhparent AND parent.relkind = 'p'
JOIN pg_class child ON child.oid = inhrelid AND child.relkind = 'r'
"""

TABLES = """
SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
AND relname <> 'alembic_version'
"""


class Databases:
    """Creates and drops databases on one server; used databases are emptied and reused."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._schema: str | None = None
        self._spare: str | None = None

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

    def lend(self) -> str:
        """Return the name of a migrated database without rows, under a new name."""
        if self._spare is None:
            name = self.create(template="migrated")
            if self._schema is None:
                self._schema = self._emptied(name)
            return name
        name, spare = f"test_{next(_numbers)}", self._spare
        self._spare = None
        self.run(f"ALTER DATABASE {spare} RENAME TO {name}")
        return name

    def take_back(self, name: str) -> None:
        """Empty a lent database, or drop it if its schema has changed."""
        try:
            as_lent = self._emptied(name) == self._schema
        except psycopg2.Error:
            as_lent = False
        if as_lent and self._spare is None:
            self._spare = name
        else:
            self.drop(name)

    def _emptied(self, name: str) -> str:
        """Delete the rows of a database, and return the description of its schema.

        Ten times as fast as a new copy of the template.
        """
        with contextlib.closing(psycopg2.connect(self.url(name))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                cursor.execute("SET lock_timeout = '10s'")
                cursor.execute(LATER_PARTITIONS)
                for (partition,) in cursor.fetchall():
                    cursor.execute(f"DROP TABLE {partition}")
                cursor.execute(SCHEMA)
                ((schema,),) = cursor.fetchall()
                cursor.execute(TABLES)
                ((tables,),) = cursor.fetchall()
                cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY")
                return str(schema)

    @contextmanager
    def with_password(self, role: str, secret: str) -> Iterator[str]:
        """Yield the URL of an empty database whose owner needs a password."""
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


MADE_ONCE = "SHOWMOOD_TESTS_MADE_ONCE"
"""The variable that names the folder of what several runs of the tests share."""

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: a file or folder that `make` creates at the first call.

    Shared by all test processes of a run; tests must not change it.
    """
    own = tmp_path_factory.getbasetemp()
    run = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    shared = Path(os.environ.get(MADE_ONCE, run / "made-once"))

    def get(name: str, make: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        found, part = shared / name, shared / f"part-{name}"
        with FileLock(shared / f"{name}.lock"):
            if not found.exists():
                make(part)
                part.rename(found)
        return found

    return get


@pytest.fixture(scope="session")
def put_cluster(made_once: MadeOnce) -> Callable[[Path], None]:
    """`put_cluster(data_dir)`: copies a migrated cluster for an EmbeddedPostgres.

    Created once, because copying is faster than initdb.
    """

    def make(path: Path) -> None:
        # Not below pytest's directory, which the server's OS user cannot enter.
        directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
        directory.chmod(0o755)
        with EmbeddedPostgres(
            directory / "pg", open_dir=directory / "open", die_with_owner=True, durable=False
        ) as server:
            upgrade(server.url)
            url = server.url.replace("/showmood?", "/postgres?", 1)
            with contextlib.closing(psycopg2.connect(url)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("CREATE DATABASE migrated TEMPLATE showmood")
        # As after a shutdown, without files of a running server.
        subprocess.run(["cp", "-a", directory / "pg" / "cluster", path], check=True)
        shutil.rmtree(directory)

    def put(data_dir: Path) -> None:
        data_dir.mkdir()
        data_dir.chmod(0o755)  # independent of the umask, for the server's OS user
        cluster = made_once("cluster", make)
        subprocess.run(["cp", "-a", cluster, data_dir / "cluster"], check=True)

    return put


@pytest.fixture(scope="session")
def databases(put_cluster: Callable[[Path], None]) -> Iterator[Databases]:
    """A server for this test process, which ends with it."""
    directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    directory.chmod(0o755)
    put_cluster(directory / "pg")
    server = EmbeddedPostgres(
        directory / "pg", open_dir=directory / "open", die_with_owner=True, durable=False
    )
    try:
        with server:
            yield Databases(server)
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """The URL of an empty database."""
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL of a migrated database without rows."""
    name = databases.lend()
    yield databases.url(name)
    databases.take_back(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    made = make_engine(database_url)
    yield made
    made.dispose()


# -- a clock for shows


class Clock:
    """A clock whose time the test sets."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> datetime:
        return datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(seconds=self.passed_s)


@pytest.fixture
def clock() -> Clock:
    """A clock that stops until `passed_s` is set."""
    return Clock()


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds of the test card in half-second segments, with its variants."""
    return make_testcard(tmp_path_factory.mktemp("card"), duration_s=4.0, segment_s=0.5)


# -- connections of processes

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
    """Return an environment in which Python logs outgoing connections and look-ups to
    `directory`/connections.log, except those to this machine.
    """
    site = directory / "listener"
    site.mkdir()
    (site / "sitecustomize.py").write_text(LISTENER)
    return {"PYTHONPATH": str(site), "HEARD_OF": str(directory / "connections.log")}


@pytest.fixture(scope="session")
def heard_of() -> Callable[[Path], dict[str, str]]:
    """`listening` as a fixture."""
    return listening


# -- a stack of `showmood up`, for end-to-end tests


ONE_STACK = "tests/whole/"
"""Folder whose tests share a stack, and so a process."""

LONGEST_FIRST = (
    "tests/test_healing.py",
    ONE_STACK,
    "tests/training/measuring/test_report.py",
    "tests/flows/capture/test_faults.py",
    "tests/flows/capture/supervisor/test_capture.py",
    "tests/flows/test_control_room.py",
    "tests/flows/page/test_page_in_a_browser.py",
    "tests/hostile/test_servers.py",
    "tests/migrations/",
)
"""Files that wait for real time or compute for long. They start first, short files end the run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no worker is idle at the end."""

    def place(item: pytest.Item) -> int:
        long = (n for n, name in enumerate(LONGEST_FIRST) if item.nodeid.startswith(name))
        return next(long, len(LONGEST_FIRST))

    items.sort(key=place)


class _Files(LoadFileScheduling):
    """`--dist loadfile`, with one group for the files that share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        return ONE_STACK if nodeid.startswith(ONE_STACK) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Run the tests of a file, and those that share a stack, in one process."""
    return _Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the largest memory use of the hostile inputs."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    told = [value for each in reports for name, value in each.user_properties if name == "hostile"]
    if told:
        name, mb = max(told, key=lambda each: each[1])
        terminalreporter.write_line(
            f"{len(told)} hostile inputs; most memory: {mb:.0f} MB ({name})"
        )


@pytest.fixture(scope="session", name="until")
def the_until() -> Callable[..., Any]:
    """`until` as a fixture."""
    return until


@pytest.fixture(scope="session", name="free_port")
def the_free_port() -> Callable[[], int]:
    """`free_port` as a fixture."""
    return free_port


@pytest.fixture(scope="session")
def start_up(made_once: MadeOnce) -> Callable[..., AbstractContextManager[Up]]:
    """Starts `showmood up` in a home folder, with further settings; stops it at the end."""

    @contextmanager
    def start(home: Path, **env: str) -> Iterator[Up]:
        with ExitStack() as stack:
            programme = made_once("programme-24.mp4", partial(make_programme, duration_s=24))
            # Its own channel, which is not watched here, plays it too: encoding takes long.
            (home / "demo").mkdir(mode=0o700)
            shutil.copy(programme, home / "demo" / "programme.mp4")
            # A long playlist, so that a busy machine misses nothing.
            origin = stack.enter_context(LiveOrigin(programme, segment_s=SEGMENT_S, window=30))
            up = Up(home, origin, listening(home) | env)
            stack.callback(up.api.close)
            stack.callback(up.stop)
            yield up
        heard = home / "connections.log"
        assert not heard.exists(), f"somebody was told: {heard.read_text()}"

    return start
