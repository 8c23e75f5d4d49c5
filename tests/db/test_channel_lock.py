"""A channel's lock: one holder, lost and taken again, and none left by the dead."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from db import channel_lock as locks
from db.channel_lock import ChannelLock, channel_lock
from db.errors import ChannelBusy, ChannelLockLost, DatabaseUnreachable
from db.session import make_engine


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


def test_a_lost_lock_taken_by_another_is_detected_each_time(databases, engine):
    with channel_lock(engine, "demo", "first") as lock:
        databases.run(CUT_OFF)
        with channel_lock(engine, "demo", "second"):
            for _ in range(2):
                with pytest.raises(ChannelLockLost, match="second watches it by now"):
                    lock.check()
        lock.check()


@contextmanager
def cut(lock: ChannelLock) -> Iterator[None]:
    """Cut the way of a lock to the database, which does not hear of it."""
    assert lock._connection is not None
    fd = lock._connection.connection.dbapi_connection.fileno()
    the_databases = os.dup(fd)
    with open(os.devnull, "rb+") as nothing:
        os.dup2(nothing.fileno(), fd)
    try:
        yield
    finally:
        os.close(the_databases)


def test_the_session_of_a_connection_that_was_cut_is_not_taken_for_another_watcher(engine):
    with channel_lock(engine, "demo", "first") as lock, cut(lock):
        lock.check()
        with pytest.raises(ChannelBusy, match="first"), channel_lock(engine, "demo", "second"):
            pass


def test_who_has_a_lost_lock_is_told(databases, engine):
    with channel_lock(engine, "demo", "first") as lock:
        databases.run(CUT_OFF)
        with channel_lock(engine, "demo", "second"), pytest.raises(ChannelLockLost) as lost:
            lock.check()
        assert lost.value.holder == "second"


def test_a_machine_that_is_cut_off_does_not_wait_for_ever(engine):
    """Not for the answer to what it asked, nor the database for it; nor for a new connection."""
    with channel_lock(engine, "demo", "first") as lock, engine.connect() as other:
        for connection in (lock._connection, other):
            told = connection.connection.dbapi_connection.get_dsn_parameters()
            assert told["connect_timeout"] == "10"
            assert told["keepalives_idle"] == "30"
            assert told["tcp_user_timeout"] == "30000"


HOLDER = """
import sys
from db.channel_lock import ChannelLock, channel_lock
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
            text("SELECT pg_advisory_xact_lock(:k)"), {"k": locks._first_key("demo")}
        )
    with channel_lock(engine, "demo", "me") as lock:
        lock.check()


def test_an_unreachable_database_is_an_error_for_a_lock_too():
    engine = make_engine("postgresql://me@127.0.0.1:1/db")
    with pytest.raises(DatabaseUnreachable), channel_lock(engine, "demo", "me"):
        pass
