"""Database sessions: URLs, passwords, state of migrations, meaning of errors."""

import subprocess
import sys

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.errors import (
    BadDatabaseURL,
    DatabaseBusy,
    DatabaseNotMigrated,
    DatabaseRefused,
    DatabaseTooNew,
    DatabaseUnreachable,
)
from db.session import (
    MIGRATIONS,
    alembic_config,
    make_engine,
    redact,
    require_current,
    revisions,
    upgrade,
)
from db.writing.spool import commit


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:s3@cr@et@host:5/db?a=b", "postgresql://me:***@host:5/db?a=b"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql:///db?host=/tmp&password=s3cret&x=1", None),
        ("postgresql://me:s3cret/@host", "postgresql://me:***@host"),
        ("host=there password=s3cret", "host=there password=***"),
    ],
)
def test_passwords_are_hidden(url, shown):
    assert "s3" not in redact(url)
    if shown is not None:
        assert redact(url) == shown


def test_the_password_of_an_engines_url_is_hidden():
    engine = make_engine("postgresql://me:s3cret@/db?host=/tmp/x")
    assert redact(engine.url) == "postgresql://me:***@/db?host=/tmp/x"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_all_spellings_of_postgres_use_psycopg2(scheme):
    assert make_engine(f"{scheme}://me@host/db").url.drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "mysql://me:s3cret@host/db", "nonsense", "", "host=x password=s3cret"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(BadDatabaseURL, match="use postgresql://") as raised:
        make_engine(url)
    assert "s3cret" not in str(raised.value)


def test_an_unreachable_database_is_named_without_its_password():
    url = "postgresql://me:s3cret@127.0.0.1:1/db"
    for use in (lambda: require_current(make_engine(url)), lambda: upgrade(url)):
        with pytest.raises(DatabaseUnreachable, match=r"me:\*\*\*@127.0.0.1.*refused") as raised:
            use()
        assert "s3cret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_missing_database_is_unreachable(databases):
    engine = make_engine(databases.url("nowhere"))
    with pytest.raises(DatabaseUnreachable, match='database "nowhere" does not exist'):
        engine.connect()


def test_sessions_are_in_utc(databases, database_url):
    engine = make_engine(database_url)
    databases.run(f"ALTER DATABASE {engine.url.database} SET timezone = 'Asia/Tokyo'")
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW timezone")) == "UTC"
        connection.rollback()
        assert connection.scalar(text("SHOW timezone")) == "UTC"
    engine.dispose()


def test_an_engine_keeps_as_many_idle_connections_as_it_may(database_url):
    engine = make_engine(database_url, kept=1)
    with engine.connect(), engine.connect():
        assert engine.pool.checkedout() == 2
    assert engine.pool.checkedin() == 1
    engine.dispose()


def test_connection_that_was_cut_while_idle_is_replaced(engine):
    ask = text("SELECT pg_backend_pid()")
    with engine.connect() as connection:
        before = connection.scalar(ask)
    other = make_engine(engine.url.render_as_string(hide_password=False))
    with other.connect() as connection:
        assert connection.scalar(text("SELECT pg_terminate_backend(:pid, 60000)"), {"pid": before})
    other.dispose()
    with engine.connect() as connection:
        assert connection.scalar(ask) != before


def test_an_empty_database_says_what_to_run(empty_database_url):
    engine = make_engine(empty_database_url)
    with pytest.raises(DatabaseNotMigrated, match="run `showmood db upgrade`"):
        require_current(engine)
    upgrade(empty_database_url)
    require_current(engine)
    upgrade(empty_database_url)
    engine.dispose()


def test_a_newer_database_says_so(engine, database_url):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffffffffffff'"))
    with pytest.raises(DatabaseTooNew, match="install a newer showmood"):
        require_current(engine)
    with pytest.raises(DatabaseTooNew, match="install a newer showmood"):
        upgrade(database_url)


def test_revisions_are_those_that_alembic_reads():
    scripts = [*ScriptDirectory.from_config(alembic_config("")).walk_revisions()]
    assert revisions() == {each.revision: each.down_revision for each in scripts}


def test_an_older_database_says_what_to_run(engine):
    (head,) = revisions().keys() - revisions().values()
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = :one"), {"one": revisions()[head]}
        )
    with pytest.raises(DatabaseNotMigrated, match="older than this version: run `showmood db up"):
        require_current(engine)


def test_whoever_only_checks_the_version_does_not_load_alembic(database_url):
    code = (
        "import sys; from db.session import make_engine, require_current;"
        "require_current(make_engine(sys.argv[1])); sys.exit('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, database_url]
    assert subprocess.run(command, cwd=MIGRATIONS.parent).returncode == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    {
        "53100": DatabaseRefused,  # disk full
        "53200": DatabaseRefused,  # out of memory
        "58030": DatabaseRefused,  # I/O error
        "XX000": DatabaseRefused,  # exceeded quota
        "25006": DatabaseRefused,  # read-only
        "42501": DatabaseRefused,  # no permission
        "55P03": DatabaseBusy,
        "40001": DatabaseBusy,
        "40P01": DatabaseBusy,
        "57P01": DatabaseUnreachable,  # shutting down
        "08006": DatabaseUnreachable,
        "22012": DBAPIError,  # bug in our SQL
        "42703": DBAPIError,
    }.items(),
)
def test_what_postgres_says_is_the_worlds_fault_or_ours(engine, code, expected):
    def fail(connection):
        connection.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$")
        )

    with pytest.raises(expected, match="so") as raised:
        commit(engine, fail)
    assert type(raised.value) is expected or expected is DBAPIError
