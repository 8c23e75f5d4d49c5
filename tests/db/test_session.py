"""The way to the database: URLs, passwords, migrations' state, a channel's lock."""

import subprocess
import sys

import pytest
from sqlalchemy import text

from db import session
from db.channel_lock import channel_lock
from db.errors import (
    BadDatabaseURL,
    ChannelBusy,
    ChannelLockLost,
    DatabaseNotMigrated,
    DatabaseTooNew,
    DatabaseUnreachable,
)
from db.session import make_engine, redact, require_current, upgrade


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


def test_an_unreachable_database_is_said_for_a_lock_too():
    engine = make_engine("postgresql://me@127.0.0.1:1/db")
    with pytest.raises(DatabaseUnreachable), channel_lock(engine, "demo", "me"):
        pass


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


def test_a_channel_is_held_by_one(engine):
    with channel_lock(engine, "demo", "run 7 on host") as lock:
        lock.check()
        with (
            pytest.raises(ChannelBusy, match="'demo' is already being watched by run 7") as raised,
            channel_lock(engine, "demo", "another"),
        ):
            pass
        assert raised.value.holder == "run 7 on host"
        with channel_lock(engine, "other", "another"):
            pass
    with channel_lock(engine, "demo", "another") as lock:
        lock.check()


CUT_OFF = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE application_name = 'showmood first'"
)


def test_a_lost_lock_is_taken_again(databases, engine):
    with channel_lock(engine, "demo", "first") as lock:
        databases.run(CUT_OFF)
        lock.check()
        with pytest.raises(ChannelBusy, match="first"), channel_lock(engine, "demo", "second"):
            pass


def test_a_lost_lock_that_somebody_else_took_is_noticed_each_time(databases, engine):
    with channel_lock(engine, "demo", "first") as lock:
        databases.run(CUT_OFF)
        with channel_lock(engine, "demo", "second"):
            for _ in range(2):
                with pytest.raises(ChannelLockLost, match="second watches it by now"):
                    lock.check()
        lock.check()


HOLDER = """
import sys
from db.channel_lock import channel_lock
from db.session import make_engine
with channel_lock(make_engine(sys.argv[1]), "demo", "the dead"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_leaves_no_lock(database_url, engine):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ChannelBusy, match="the dead"), channel_lock(engine, "demo", "me"):
            pass
        holder.kill()
    with engine.begin() as connection:  # wait, as a lock waits, until Postgres has noticed
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:k)"), {"k": session._lock_key("demo")}
        )
    with channel_lock(engine, "demo", "me") as lock:
        lock.check()
