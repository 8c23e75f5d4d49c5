"""Automatic recovery: a real server, worker and Postgres, killed during a show."""

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.control import healing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

ANALYSED = (
    "SELECT count(*) FROM segments JOIN channels ON channels.id = channel_id"
    " WHERE status = 'analysed' AND slug = :slug"
)
SEQUENCES = (
    "SELECT sequence FROM segments JOIN channels ON channels.id = channel_id"
    " WHERE slug = :slug ORDER BY segments.started_at"
)
GAPS = "SELECT why FROM gaps JOIN channels ON channels.id = channel_id WHERE slug = :slug"
BROADCASTS = (
    "SELECT broadcasts.id, status, started_at, planned_end FROM broadcasts"
    " JOIN channels ON channels.id = channel_id WHERE slug = :slug ORDER BY started_at"
)
DEAD_AFTER_S = 40
APART_S = 120
SLOT_S = 90
ONE_FPS = {"analysed_fps": 1.0}
"""Of a show: these tests look at no face."""

WORKER = "worker start --type process"
SERVER = "-m flows.stack.server"
WATCHER = "-m flows.begin"


@pytest.fixture(scope="module")
def up(start_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    settings = {"SHOWMOOD_DEAD_AFTER_S": str(DEAD_AFTER_S), "SHOWMOOD_GPU_LIMIT": "always"}
    with start_up(home, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def run(up: Any) -> str:
    """A show that lasts longer than these tests."""
    started = up.start("adhoc", url=up.origin.url, name="healing", duration="15m", **ONE_FPS)
    up.until(lambda: analysed(up) >= 3, what="three segments", within_s=180)
    return str(started)


@pytest.fixture(scope="module")
def elsewhere(up: Any, run: str) -> Iterator[str]:
    """A show of the pool gpu, on a machine with its clock two minutes ahead, if possible."""
    with up.worker("gpu", ahead_s=APART_S if up.has_clocks else 0):
        up.deploy("elsewhere", pool="gpu")
        started = up.start(
            "elsewhere", url=up.origin.url, name="elsewhere", duration="15m", **ONE_FPS
        )
        up.until(lambda: analysed(up, "elsewhere") >= 2, what="its segments", within_s=180)
        yield str(started)


def analysed(up: Any, slug: str = "healing") -> int:
    return int(up.rows(ANALYSED, slug=slug)[0][0])


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended together with another process
            process.send_signal(signal.SIGKILL)


def more(up: Any, n: int) -> Callable[[], bool]:
    """Return a function that checks for this many more analysed segments."""
    before = analysed(up)
    return lambda: analysed(up) >= before + n


def assert_whole(up: Any, slug: str) -> None:
    """Assert that no segment is missing."""
    sequences = [row.sequence for row in up.rows(SEQUENCES, slug=slug)]
    assert sequences == list(range(len(sequences)))
    assert up.rows(GAPS, slug=slug) == []


def last_words(up: Any, run: str) -> int:
    """Return the number of a worker's final reports for a run's processes."""
    related = {"id": [f"prefect.flow-run.{run}"]}
    asked = {"filter": {"event": {"name": [healing.WORKER_REPORTED]}, "related": related}}
    return int(up.api.post("/events/filter", json=asked).raise_for_status().json()["total"])


def crash_automation(up: Any) -> dict[str, Any]:
    query = {"automations": {"name": {"any_": ["showmood: a crashed show goes on"]}}}
    (found,) = up.api.post("/automations/filter", json=query).raise_for_status().json()
    return dict(found)


def spoil(up: Any) -> None:
    """Change the start of runs and switch recovery off, like a logged-in user."""
    pool = up.api.get("/work_pools/shows").raise_for_status().json()
    template = pool["base_job_template"]
    template["job_configuration"]["command"] = "false"
    template["job_configuration"]["env"] = {"SHOWMOOD_ALLOW_NETWORKS": "0.0.0.0/0"}
    changed = {"base_job_template": template}
    up.api.patch("/work_pools/shows", json=changed).raise_for_status()
    automation, off = crash_automation(up), {"enabled": False}
    up.api.patch(f"/automations/{automation['id']}", json=off).raise_for_status()


def assert_unspoilt(up: Any) -> None:
    pool = up.api.get("/work_pools/shows").raise_for_status().json()
    assert pool["base_job_template"]["job_configuration"] == {
        "command": f"{sys.executable} -m flows.begin",
        "stream_output": True,
    }
    assert crash_automation(up)["enabled"] is True


def assert_closed(home: Path) -> None:
    """Assert that other users can read no file, and that no stored environment has passwords."""
    folders = [home / name for name in ("recordings", "logs", "prefect", "tmp")]
    written = [file for folder in folders for file in (folder, *folder.rglob("*"))]
    assert len(written) > 20
    assert home.stat().st_mode & 0o077 == 0
    for file in written:
        with contextlib.suppress(FileNotFoundError):  # for example a socket
            assert file.stat().st_mode & 0o077 == 0, file
            assert not file.is_file() or b"SHOWMOOD_DATABASE_URL" not in file.read_bytes(), file


def places_taken(up: Any) -> int:
    limit = up.api.get("/v2/concurrency_limits/gpu").raise_for_status().json()
    assert limit["limit"] == 4
    return int(limit["active_slots"])


def test_show_takes_one_place_on_the_gpu(up: Any, run: str) -> None:
    assert places_taken(up) == 1


def test_worker_of_the_gpu_pool_takes_its_shows(up: Any, elsewhere: str) -> None:
    found = up.api.get(f"/flow_runs/{elsewhere}").raise_for_status().json()
    assert (found["work_pool_name"], found["state_type"]) == ("gpu", "RUNNING")
    assert places_taken(up) == 2


def test_show_continues_while_its_worker_and_the_server_are_killed(up: Any, run: str) -> None:
    """No segment is lost, and both are restarted."""
    (watcher,) = up.tools(WATCHER)
    (worker,) = up.tools(WORKER, "--pool shows")
    kill([worker, *up.tools(SERVER)])
    up.until(more(up, 3), what="segments without a server")
    up.until(up.is_up, what="the server's return")
    (again,) = up.until(lambda: up.tools(WORKER, "--pool shows"), what="its return")
    assert again.pid != worker.pid
    up.until(more(up, 3), what="segments after it")
    assert watcher.is_running()
    assert not {"AwaitingRetry", "Crashed"} & set(up.states(run))
    assert_whole(up, "healing")


def test_second_run_for_a_channel_is_skipped_and_says_who_has_it(up: Any, run: str) -> None:
    second = up.start("adhoc", url=up.origin.url, name="healing", duration="1s")
    state = up.until(lambda: up.ended(second), what="the second run's end")
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert run in state["message"]


def test_show_on_a_machine_whose_clock_is_wrong_is_not_taken_for_dead(
    up: Any, elsewhere: str
) -> None:
    """Two minutes ahead, three times the heartbeat timeout."""
    if not up.has_clocks:
        pytest.skip("NO OTHER CLOCK: not tested; install Debian's package libfaketime")
    (broadcast,) = up.rows(BROADCASTS, slug="elsewhere")
    ahead = broadcast.started_at - datetime.now(UTC)
    assert ahead > timedelta(seconds=APART_S / 4), "its clock is its own"
    up.until(lambda: analysed(up, "elsewhere") >= DEAD_AFTER_S + 20, what="its going on")
    run = up.api.get(f"/flow_runs/{elsewhere}").raise_for_status().json()
    assert run["state_type"] == "RUNNING"
    assert not {"AwaitingRetry", "Crashed"} & set(up.states(elsewhere))
    assert_whole(up, "elsewhere")


def test_show_whose_worker_is_gone_is_cancelled_all_the_same(up: Any, elsewhere: str) -> None:
    kill(up.tools(WORKER, "--pool gpu"))
    up.cancel(elsewhere)
    state = up.until(lambda: up.ended(elsewhere), what="its end")
    assert (state["type"], state["message"]) == (
        "CANCELLED",
        "Cancelled; what was recorded is stored.",
    )
    up.until(lambda: not up.of_run(elsewhere), what="the end of its processes")
    assert up.states(elsewhere)[-1] == "Cancelled"
    assert [row.status for row in up.rows(BROADCASTS, slug="elsewhere")] == ["cancelled"]
    artifacts = up.api.post("/artifacts/latest/filter", json={}).raise_for_status().json()
    (report,) = (each["data"] for each in artifacts if each["key"] == "show-elsewhere")
    assert "## Tracks" in report, "it holds what its own clock says is not yet"


def test_show_continues_after_its_machine_was_rebooted(up: Any, run: str) -> None:
    """All killed, including the database: same run, broadcast and tracks, and a gap row."""
    up.until(more(up, 1), what="a segment")
    before = up.rows(BROADCASTS, slug="healing")
    spoil(up)
    kill([*up.processes(), *up.postgres()])
    up.process.wait()
    up.engine.dispose()
    assert_closed(up.home)
    up.restart()
    assert_unspoilt(up)
    up.until(more(up, 4), what="the show's going on", within_s=180)
    assert up.rows(BROADCASTS, slug="healing") == before
    assert up.states(run).count("AwaitingRetry") == 1
    assert all(row.why for row in up.rows(GAPS, slug="healing"))
    spans = up.rows(
        "SELECT s.started_at, s.ended_at, sequence FROM segments s JOIN channels c"
        " ON c.id = s.channel_id AND slug = 'healing' UNION ALL"
        " SELECT g.started_at, g.ended_at, NULL FROM gaps g JOIN channels c"
        " ON c.id = g.channel_id AND slug = 'healing' ORDER BY 1"
    )
    assert all(a.ended_at <= b.started_at for a, b in itertools.pairwise(spans))
    covered = sum((span.ended_at - span.started_at).total_seconds() for span in spans)
    whole = (spans[-1].ended_at - spans[0].started_at).total_seconds()
    assert covered == pytest.approx(whole, abs=0.3)
    sequences = [span.sequence for span in spans if span.sequence is not None]
    assert sequences == list(range(len(sequences)))
    tracks = [
        row.track_no
        for row in up.rows(
            "SELECT track_no FROM face_tracks WHERE broadcast_id = :id ORDER BY first_ts",
            id=before[0].id,
        )
    ]
    assert len(tracks) == len(set(tracks)) > 0


@pytest.fixture(scope="module")
def slot(up: Any, run: str) -> tuple[str, datetime]:
    """A scheduled run for a slot of the same show, and its start."""
    begins = (datetime.now(UTC) + timedelta(seconds=5)).replace(microsecond=0)
    rule = f"DTSTART:{begins:%Y%m%dT%H%M%S}\nRRULE:FREQ=SECONDLY;COUNT=1"
    schedule = {
        "schedule": {"rrule": rule, "timezone": "UTC"},
        "active": True,
        "parameters": {"url": up.origin.url, "name": "healing", "duration": f"{SLOT_S}s"} | ONE_FPS,
    }
    up.deploy("slots", pool="shows", schedules=[schedule])
    deployment = up.api.get("/deployments/name/watch-show/slots").raise_for_status().json()["id"]
    # Requested explicitly, because a slow scheduler would find the slot in the past.
    span = {"start_time": begins - timedelta(minutes=1), "end_time": begins + timedelta(minutes=1)}
    asked = {name: at.isoformat() for name, at in span.items()}
    up.api.post(f"/deployments/{deployment}/schedule", json=asked).raise_for_status()
    query = {"deployments": {"id": {"any_": [deployment]}}}
    (made,) = up.api.post("/flow_runs/filter", json=query).raise_for_status().json()
    assert made["auto_scheduled"]
    return str(made["id"]), begins


def test_slot_that_begins_while_the_last_one_runs_waits_until_that_has_ended(
    up: Any, run: str, slot: tuple[str, datetime]
) -> None:
    """The slot is scheduled: the unscheduled run gives way to it."""
    second, _ = slot
    log = {"logs": {"flow_run_id": {"any_": [second]}}}

    def waits() -> bool:
        lines = up.api.post("/logs/filter", json=log).raise_for_status().json()
        return any(f"watched by run {run}" in line["message"] for line in lines)

    up.until(waits, what="the slot's waiting")
    assert up.until(lambda: up.ended(run), what="the first one's end")["type"] == "COMPLETED"


def test_cancelled_show_that_was_taken_for_dead_stays_cancelled(up: Any) -> None:
    """As if a busy server had lost the event of its end."""
    run = up.start("adhoc", url=up.origin.url, name="cancelled", duration="15m", **ONE_FPS)
    up.until(lambda: analysed(up, "cancelled") >= 1, what="a segment")
    up.cancel(run)
    assert up.until(lambda: up.ended(run), what="its cancel")["type"] == "CANCELLED"
    up.until(lambda: last_words(up, run) == 1, what="the last word of its worker")
    silence = healing.automations(DEAD_AFTER_S)[0]["actions"][0]
    state = {"type": silence["state"], "name": silence["name"], "message": silence["message"]}
    n = len(up.states(run))
    body = {"state": state, "force": True}
    up.api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()
    up.until(lambda: up.states(run)[n:][-1:] == ["Cancelled"], what="its end")
    assert "Running" in up.states(run)[n:], "a worker took it"
    (broadcast,) = up.rows(BROADCASTS, slug="cancelled")
    assert broadcast.status == "cancelled"
    up.until(lambda: not up.of_run(run), what="the end of its process")


def test_slot_has_taken_over_from_the_one_before_it(up: Any, slot: tuple[str, datetime]) -> None:
    second, begins = slot
    end = up.until(lambda: up.ended(second), what="the slot's end", within_s=2 * SLOT_S)
    assert (end["type"], end["name"]) == ("COMPLETED", "Completed")
    first, then = up.rows(BROADCASTS, slug="healing")
    assert (first.status, then.status) == ("completed", "completed")
    assert then.planned_end == begins + timedelta(seconds=SLOT_S)
    (overlapping,) = up.rows(
        "SELECT count(*) FROM segments a JOIN segments b ON a.channel_id = b.channel_id"
        " WHERE a.broadcast_id = :first AND b.broadcast_id = :then AND a.ended_at > b.started_at",
        first=first.id,
        then=then.id,
    )
    assert overlapping == (0,)
    up.until(lambda: not up.tools(WATCHER), what="the end of its process")


def test_place_of_a_show_that_died_is_free_again(up: Any, run: str) -> None:
    """The machine died with its slot taken; the lease expires."""
    up.until(lambda: places_taken(up) == 0, what="its place", within_s=180)
