"""Supervision of the embedded Postgres: killed, and restarted."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text

from benchmarks.up import until
from db.addresses import address_for
from db.embedded import server as server_module
from db.embedded.placement import file_lock
from db.embedded.reader import let_reader_in, reader_url
from db.embedded.server import EmbeddedPostgres
from db.errors import DatabaseUnreachable, EmbeddedError
from db.session import make_engine, upgrade
from flows.errors import StackError
from flows.settings import Settings
from flows.stack.processes import child, postgres
from flows.stack.processes.postgres import Postgres, tended
from flows.stack.stack import Stack


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users can enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(directory: Path, put_cluster: Callable[[Path], None]) -> Iterator[EmbeddedPostgres]:
    put_cluster(directory / "pg")
    made = EmbeddedPostgres(
        directory / "pg", open_dir=directory / "open", die_with_owner=True, durable=False
    )
    with made:
        yield made


@pytest.fixture
def kill(directory: Path) -> Callable[[], None]:
    def run() -> None:
        pid = int((directory / "pg" / "cluster" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    return run


def until_said(one: Postgres, words: str) -> None:
    """Tend it until it reports this; reports of the killed one may come before."""
    until(lambda: words in (one.tend() or ""), what=words)


def answer(url: str) -> object:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return connection.scalar(text("SELECT 42"))
    finally:
        engine.dispose()


def test_a_killed_one_is_restarted_and_reported(server, kill, monkeypatch) -> None:
    monkeypatch.setattr(postgres, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(child, "TRIES", 1)
    one = Postgres(server)
    assert one.tend() is None
    url = one.url
    kill()
    until_said(one, "started again")
    assert one.url == url
    assert answer(url) == 42
    assert one.tend() is None
    kill()
    with pytest.raises(StackError, match="was restarted 1 times"):
        until_said(one, "nothing")


def test_one_that_cannot_be_started_is_retried_and_reported_once(
    server, kill, directory, monkeypatch
) -> None:
    monkeypatch.setattr(postgres, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(postgres, "MAX_PAUSE_S", 0.001)
    one = Postgres(server)
    version = directory / "pg" / "cluster" / "PG_VERSION"
    whole = version.read_text()
    version.write_text("9\n")
    kill()
    monkeypatch.setattr(server_module, "_LOCK_S", 0.01)
    with file_lock(directory / "pg" / "start.lock"):  # of another process that is starting it
        until(one._server.has_ended, what="the end of Postgres")
        assert one.tend() is None
    until_said(one, "has ended, and does not start")
    assert [one.tend() for _ in range(3)] == [None] * 3
    status = directory / "pg" / "cluster" / "postmaster.pid"
    status.unlink(missing_ok=True)
    status.mkdir()  # a failing disk
    until_said(one, "Is a directory")
    status.rmdir()
    version.write_text(whole)
    until_said(one, "started again")


def test_a_stack_and_a_command_restart_it(server, kill, tmp_path, monkeypatch, caplog) -> None:
    said: list[str] = []
    stack = Stack(Settings(home=tmp_path), echo=said.append)
    stack._postgres = Postgres(server)
    kill()

    def is_back() -> bool:
        stack.tend()
        return any("started again" in each for each in said)

    until(is_back, what="its start")
    kill()
    with tended(Postgres(server), every_s=0.01):
        until(lambda: "started again" in caplog.text, what="its start")
    assert answer(server.url) == 42


def test_files_left_by_a_crash_do_not_prevent_a_restart(server, kill, directory) -> None:
    one = Postgres(server)
    for left in ("", "half", "12"):
        kill()
        (directory / "pg" / "cluster" / "postmaster.pid").write_text(left)
        until_said(one, "started again")


def test_stop_ends_a_hanging_start(server, kill, directory) -> None:
    """Postgres waits for a file of its archive, for which pg_ctl would wait a minute."""
    cluster = directory / "pg" / "cluster"
    with (cluster / "postgresql.conf").open("a") as conf:
        conf.write("restore_command = 'touch asked; sleep 600'\n")
    kill()
    (cluster / "recovery.signal").touch()
    shutil.chown(cluster / "recovery.signal", cluster.owner(), cluster.group())
    over = threading.Event()

    def hold() -> None:
        with tended(Postgres(server), every_s=0.01):
            until((cluster / "asked").exists, what="its asking for the file")
        server.stop()
        over.set()

    threading.Thread(target=hold, daemon=True).start()
    assert over.wait(45), "pg_ctl waits for 60 s"
    assert not (cluster / "postmaster.pid").exists()


def test_a_port_is_only_for_the_reader_with_a_password(directory, free_port) -> None:
    port = free_port()
    server = EmbeddedPostgres(
        directory / "pg",
        open_dir=directory / "open",
        die_with_owner=True,
        durable=False,
        port=port,
    )
    with server:
        assert server.running_port == port
        upgrade(server.url)
        for password in ("first", "second %/@'"):  # the second replaces the first
            let_reader_in(server.url, port, password)
        url = reader_url(port, "second %/@'")
        let_reader_in(server.url, port, "second %/@'")
        assert answer(url) == answer(server.url) == 42
        said = psycopg2.connect(address_for(url, "psycopg"))
        with closing(said), said.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM emotion_history")
            assert cursor.fetchall() == [(0,)]
            with pytest.raises(psycopg2.Error, match="permission denied for table segments"):
                cursor.execute("DELETE FROM segments")
        owner = server.url.partition("?")[0].replace("@/", f"@127.0.0.1:{port}/")
        for wrong in (reader_url(port, "first"), url.replace(":second", ":x"), owner):
            with pytest.raises(DatabaseUnreachable):
                answer(wrong)
        other = EmbeddedPostgres(
            directory / "pg2", open_dir=directory / "open2", durable=False, port=port
        )
        with pytest.raises(EmbeddedError, match=f"Postgres can't use port {port} .*already in use"):
            other.start()
