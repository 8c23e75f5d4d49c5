"""What heals by itself: a real server, worker and Postgres, killed while a show is on."""

import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

ANALYSED = "SELECT count(*) FROM segments WHERE status = 'analysed'"
WORKER = "-m prefect worker start"
SERVER = "-m prefect server start"
WATCHER = "-m prefect.engine"


@pytest.fixture(scope="module")
def up(start_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    settings = {"SHOWMOOD_DEAD_AFTER_S": "40", "SHOWMOOD_GPU_LIMIT": "always"}
    with start_up(home, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def run(up: Any) -> str:
    """A show that lasts longer than these tests."""
    started = up.start("adhoc", url=up.origin.url, name="healing", duration="15m")
    up.until(lambda: up.rows(ANALYSED)[0][0] >= 3, what="three segments", within_s=180)
    return str(started)


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGKILL)


def more(up: Any, n: int) -> Callable[[], bool]:
    """Return what tells whether so many more segments are analysed."""
    before = up.rows(ANALYSED)[0][0]
    return lambda: bool(up.rows(ANALYSED)[0][0] >= before + n)


def test_show_takes_one_place_on_the_gpu(up: Any, run: str) -> None:
    limit = up.api.get("/v2/concurrency_limits/gpu").raise_for_status().json()
    assert (limit["limit"], limit["active_slots"]) == (4, 1)


def test_show_goes_on_while_its_worker_and_the_server_are_killed(up: Any, run: str) -> None:
    """Not a segment is lost, and both are there again."""
    (watcher,) = up.tools(WATCHER)
    (worker,) = up.tools(WORKER)
    kill([worker, *up.tools(SERVER)])
    up.until(more(up, 3), what="segments without a server")
    up.until(up.is_up, what="the server's return")
    (again,) = up.until(lambda: up.tools(WORKER), what="the worker's return")
    assert again.pid != worker.pid
    up.until(more(up, 3), what="segments after it")
    assert watcher.is_running()
    assert not {"AwaitingRetry", "Crashed"} & set(up.states(run))
    sequences = [row[0] for row in up.rows("SELECT sequence FROM segments ORDER BY started_at")]
    assert sequences == list(range(len(sequences)))
    assert up.rows("SELECT why FROM gaps") == []


def test_second_run_for_a_channel_is_skipped_and_says_who_has_it(up: Any, run: str) -> None:
    second = up.start("adhoc", url=up.origin.url, name="healing", duration="1s")
    state = up.until(lambda: up.ended(second), what="the second run's end")
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert run in state["message"]


def test_show_goes_on_after_its_machine_was_rebooted(up: Any, run: str) -> None:
    """All killed, the database too: the same run, broadcast and tracks, and a row for the hole."""
    up.until(more(up, 1), what="a segment")
    before = up.rows("SELECT id, status FROM broadcasts")
    kill([*up.processes(), *up.postgres()])
    up.process.wait()
    up.engine.dispose()
    up.restart()
    up.until(more(up, 4), what="the show's going on", within_s=180)
    assert up.rows("SELECT id, status FROM broadcasts") == before
    assert up.states(run).count("AwaitingRetry") == 1
    assert all(row.why for row in up.rows("SELECT why FROM gaps"))

    up.cancel(run)
    assert up.until(lambda: up.ended(run), what="its end")["type"] == "CANCELLED"
    spans = up.rows(
        "SELECT started_at, ended_at, sequence FROM segments"
        " UNION ALL SELECT started_at, ended_at, NULL FROM gaps ORDER BY 1"
    )
    assert all(a.ended_at <= b.started_at for a, b in itertools.pairwise(spans))
    covered = sum((span.ended_at - span.started_at).total_seconds() for span in spans)
    whole = (spans[-1].ended_at - spans[0].started_at).total_seconds()
    assert covered == pytest.approx(whole, abs=0.3)
    sequences = [span.sequence for span in spans if span.sequence is not None]
    assert sequences == list(range(len(sequences)))
    tracks = [row[0] for row in up.rows("SELECT track_no FROM face_tracks ORDER BY first_ts")]
    assert len(tracks) == len(set(tracks)) > 0
    up.until(lambda: not up.tools(WATCHER), what="the end of its process")
