"""A temporary outage of the database during a show: the watch continues."""

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from benchmarks.capture.contenders import events_in
from benchmarks.up import until
from db.embedded.server import EmbeddedPostgres
from db.errors import DatabaseUnreachable
from db.session import make_engine, upgrade
from flows.capture.segment import Segment
from flows.demo.channel import LiveOrigin
from flows.live.broadcast import Watch
from flows.live.locking import database_wait
from flows.live.rows import store
from flows.recordings.finding import WAITING
from flows.settings import Settings
from flows.show import make_show
from flows.stack.processes.postgres import Postgres, tended

PATIENCE_S = 60.0
SHOW_S = 9


@pytest.fixture
def server(put_cluster: Callable[[Path], None]) -> Iterator[EmbeddedPostgres]:
    """A separate durable server, which the test can stop."""
    directory = Path(tempfile.mkdtemp(prefix="showmood-test-"))
    directory.chmod(0o755)
    put_cluster(directory / "pg")
    made = EmbeddedPostgres(directory / "pg", open_dir=directory / "open", die_with_owner=True)
    try:
        yield made.start()
    finally:
        made.stop()
        shutil.rmtree(directory)


Waits = Callable[[], bool]
"""Returns whether enough has happened during the outage."""


@contextmanager
def stopped(server: EmbeddedPostgres, much_waits: Waits) -> Iterator[None]:
    """The show continues during the outage."""
    server.stop()
    until(much_waits, what="what waits")
    try:
        yield
    finally:
        server.start()


@contextmanager
def killed(server: EmbeddedPostgres, much_waits: Waits) -> Iterator[None]:
    """The owner of the database restarts it, like `showmood up` and `watch`."""
    pid = int((server.log_path.parent / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    until(server.has_ended, what="its end")
    until(much_waits, what="what waits")
    with tended(Postgres(server), every_s=0.1):
        yield
        until(lambda: not server.has_ended(), what="its start")


@pytest.mark.parametrize("away", [stopped, killed])
def test_a_watch_continues_without_its_database_and_all_rows_follow(
    server: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away: Callable[[EmbeddedPostgres, Waits], AbstractContextManager[None]],
    long_card: dict[str, Path],
) -> None:
    monkeypatch.setattr(store, "RETRY_S", 0.5)
    upgrade(server.url)
    url = server.url
    engine = make_engine(url)

    def rows(what: str) -> list[tuple[object, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(what))]

    recordings = tmp_path / "home" / "recordings" / "card"
    segment_s = 0.5
    began = datetime.now(UTC) - timedelta(seconds=4 * segment_s)
    with LiveOrigin(long_card[""], loop=False, started_at=began, window=100) as origin:
        port = origin.base_url.rpartition(":")[2]
        watch = Watch(
            show=make_show(url=origin.url, name="card", duration=f"{SHOW_S}s"),
            settings=Settings(home=tmp_path / "home", allow_networks=(f"127.0.0.1:{port}",)),
            database_url=url,
            log=logging.getLogger("test"),
        )
        counted: list[int] = []
        watching = threading.Thread(target=lambda: counted.append(watch.run().segments))
        watching.start()
        try:
            until(lambda: rows("SELECT count(*) FROM segments")[0][0] >= 3, what="segments")
            engine.dispose()
            with away(server, lambda: len(list(recordings.glob(f"*/{WAITING}/*"))) >= 3):
                pass
        finally:
            watching.join(PATIENCE_S)
    assert not list(recordings.glob(f"*/{WAITING}/*"))
    [directory] = recordings.iterdir()
    events = events_in(directory)
    assert all(isinstance(event, Segment) for event in events)
    assert all(before.end == after.start for before, after in pairwise(events))
    assert (events[-1].end - events[0].start).total_seconds() >= SHOW_S
    stored = rows("SELECT started_at, status FROM segments ORDER BY started_at")
    assert stored == [(event.start, "analysed") for event in events]
    assert counted == [len(events)]
    assert rows("SELECT count(*) FROM gaps") == [(0,)]
    assert rows("SELECT status FROM broadcasts") == [("completed",)]
    engine.dispose()


def test_a_run_waits_for_an_unavailable_database_at_its_start(
    server: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    long_card: dict[str, Path],
) -> None:
    """As one that is started again when the machine, or Postgres, was killed with it."""
    monkeypatch.setattr(database_wait, "RETRY_S", 0.1)
    caplog.set_level(logging.INFO)
    url = server.url
    upgrade(url)
    server.stop()
    with LiveOrigin(long_card[""]) as origin:
        port = origin.base_url.rpartition(":")[2]
        watch = Watch(
            show=make_show(url=origin.url, name="card", duration="1s", analysed_fps=2),
            settings=Settings(home=tmp_path / "home", allow_networks=(f"127.0.0.1:{port}",)),
            database_url=url,
            log=logging.getLogger("test"),
            run_id="a-run",
            ends_at=datetime.now(UTC) + timedelta(minutes=1),
        )
        with ThreadPoolExecutor(1) as pool:
            counted = pool.submit(watch.run)
            until(lambda: "retrying until" in caplog.text or counted.done(), what="its asking")
            server.start()
            assert counted.result(PATIENCE_S).segments >= 2


def test_a_lasting_database_outage_ends_a_run_with_its_cause(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=count().__next__, sleep=lambda seconds: None)
    monkeypatch.setattr(database_wait, "time", clock)
    engine = make_engine(server.url)
    server.stop()
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        engine.connect()

    with pytest.raises(DatabaseUnreachable):
        database_wait.retry_on_outage(
            ask, engine, max_wait=timedelta(seconds=2.5), log=logging.getLogger("test")
        )
    assert len(asked) == 3
    engine.dispose()
