"""Automatic recovery at full length: `make heal`, some twenty minutes.

test_healing.py has the short forms of these.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from flows.control import healing

pytestmark = [pytest.mark.heal, pytest.mark.timeout(900)]

AWAY_S = 60
APART_S = 120
SERVER = "-m flows.stack.server"
WATCHER = "-m flows.begin"
ROWS = (
    "SELECT sequence, s.status, s.started_at, s.ended_at FROM segments s JOIN channels c"
    " ON c.id = s.channel_id WHERE slug = :slug ORDER BY s.started_at"
)
GAPS = "SELECT why FROM gaps JOIN channels ON channels.id = channel_id WHERE slug = :slug"
BROADCASTS = (
    "SELECT status, started_at, ended_at, planned_end FROM broadcasts"
    " JOIN channels ON channels.id = channel_id WHERE slug = :slug ORDER BY started_at"
)


@pytest.fixture(scope="module")
def up(start_up: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_up(tmp_path_factory.mktemp("home"), SHOWMOOD_GPU_LIMIT="always") as started:
        yield started


@pytest.fixture
def show(up: Any) -> Iterator[Callable[[str], str]]:
    """Start a long show, and cancel it afterwards."""
    runs = []

    def start(slug: str, *, deployment: str = "adhoc") -> str:
        run = up.start(deployment, url=up.origin.url, name=slug, duration="30m")
        runs.append(run)
        return str(run)

    yield start
    for run in runs:
        if up.ended(run) is None:
            up.cancel(run)
            up.until(lambda: up.ended(run), what="its end")  # noqa: B023
            up.until(lambda: not up.of_run(run), what="the end of its processes")  # noqa: B023
            assert up.states(run)[-1] == "Cancelled"


def analysed(up: Any, slug: str) -> int:
    return sum(row.status == "analysed" for row in up.rows(ROWS, slug=slug))


def assert_whole(up: Any, slug: str) -> None:
    """Assert that no segment is missing."""
    sequences = [row.sequence for row in up.rows(ROWS, slug=slug)]
    assert sequences == list(range(len(sequences)))
    assert up.rows(GAPS, slug=slug) == []


def assert_lived(up: Any, run: str) -> None:
    """Assert that it is running and was never considered dead."""
    assert up.api.get(f"/flow_runs/{run}").raise_for_status().json()["state_type"] == "RUNNING"
    assert not {"AwaitingRetry", "Crashed"} & set(up.states(run))


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended together with another process
            process.send_signal(number)


def until_analysed(up: Any, slug: str, n: int, within_s: float = 180) -> None:
    up.until(lambda: analysed(up, slug) >= n, what=f"{n} segments", within_s=within_s)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "mute"])
def test_server_outage_of_a_minute(up: Any, show: Any, how: signal.Signals) -> None:
    """Capture and rows continue, and the server gets the state afterwards."""
    slug = f"away-{how.name[3:].lower()}"
    run = show(slug)
    until_analysed(up, slug, 5)
    server, before = up.tools(SERVER), analysed(up, slug)
    up.process.send_signal(signal.SIGSTOP)  # otherwise it would restart the server immediately
    try:
        send(server, how)
        until_analysed(up, slug, before + AWAY_S)
        assert not up.is_up()
    finally:
        if how == signal.SIGSTOP:
            send(server, signal.SIGCONT)
        up.process.send_signal(signal.SIGCONT)
    up.until(up.is_up, what="the server's return")
    back = datetime.now(UTC)
    until_analysed(up, slug, before + AWAY_S + 10)
    assert_whole(up, slug)
    assert_lived(up, run)

    def said() -> bool:
        state = up.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        fresh = datetime.fromisoformat(state["timestamp"]) > back
        return fresh and str(state["message"]).startswith("live, ")

    up.until(said, what="what it says afterwards")


@pytest.mark.parametrize("ahead_s", [APART_S, -APART_S], ids=["ahead", "behind"])
def test_clocks_of_worker_and_server_are_apart(up: Any, show: Any, ahead_s: int) -> None:
    """For longer than the heartbeat timeout."""
    if not up.has_clocks:
        pytest.skip("NO OTHER CLOCK: not tested; install Debian's package libfaketime")
    pool = f"apart-{ahead_s}".replace("--", "-minus-")
    slug = pool
    with up.worker(pool, ahead_s=ahead_s):
        up.deploy(pool, pool=pool)
        asked = datetime.now(UTC)
        run = show(slug, deployment=pool)
        # A worker whose clock is behind takes the run late.
        until_analysed(up, slug, 3, within_s=180 + APART_S)
        (broadcast,) = up.rows(BROADCASTS, slug=slug)
        off = broadcast.started_at - up.rows(ROWS, slug=slug)[0].started_at
        assert off.total_seconds() == pytest.approx(ahead_s, abs=30), "its clock is its own"
        until_analysed(up, slug, 150, within_s=300)
        assert_whole(up, slug)
        assert_lived(up, run)
        up.cancel(run)
        assert up.until(lambda: up.ended(run), what="its end")["type"] == "CANCELLED"
        assert up.rows(BROADCASTS, slug=slug)[0].status == "cancelled"
        assert up.rows(ROWS, slug=slug)[0].started_at > asked - timedelta(seconds=30)


@contextmanager
def nobody_heals(up: Any) -> Iterator[None]:
    """Switch the automatic recovery off."""
    query = {"automations": {"name": {"any_": [
        each["name"] for each in healing.automations(120)
    ]}}}  # fmt: skip
    found = up.api.post("/automations/filter", json=query).raise_for_status().json()
    assert len(found) == 3

    def switch(*, enabled: bool) -> None:
        for each in found:
            changed = {"enabled": enabled}
            up.api.patch(f"/automations/{each['id']}", json=changed).raise_for_status()

    switch(enabled=False)
    yield
    switch(enabled=True)


def test_place_on_the_gpu_is_had_after_its_holder_has_died(up: Any, show: Any) -> None:
    limit = up.api.get("/v2/concurrency_limits/gpu").raise_for_status().json()
    up.until(
        lambda: up.api.get("/v2/concurrency_limits/gpu").json()["active_slots"] == 0,
        what="the places of the tests before",
        within_s=200,
    )
    path = f"/v2/concurrency_limits/{limit['id']}"
    up.api.patch(path, json={"limit": 1}).raise_for_status()
    with nobody_heals(up):
        show("holds")
        until_analysed(up, "holds", 3)
        (holder,) = up.tools(WATCHER)
        second = show("wants")
        log = {"logs": {"flow_run_id": {"any_": [second]}}}
        up.until(
            lambda: any(
                "waiting for a place" in line["message"]
                for line in up.api.post("/logs/filter", json=log).raise_for_status().json()
            ),
            what="the second's waiting",
        )
        holder.send_signal(signal.SIGKILL)
        died = datetime.now(UTC)
        until_analysed(up, "wants", 30, within_s=300)
    # Content recorded during the wait is analysed too.
    assert up.rows(ROWS, slug="wants")[0].started_at < died
    assert_whole(up, "wants")
    up.api.patch(path, json={"limit": limit["limit"]}).raise_for_status()


def test_slots_that_overlap_take_turns(up: Any) -> None:
    """A scheduled slot per minute, each for 90 s: the second one watches the rest of its time."""
    begins = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    rule = f"DTSTART:{begins:%Y%m%dT%H%M%S}\nRRULE:FREQ=MINUTELY;COUNT=2"
    slot = {
        "schedule": {"rrule": rule, "timezone": "UTC"},
        "active": True,
        "parameters": {"url": up.origin.url, "name": "slots", "duration": "90s"},
    }
    up.deploy("slots", pool="shows", schedules=[slot])
    up.until(
        lambda: [row.status for row in up.rows(BROADCASTS, slug="slots")] == ["completed"] * 2,
        what="two broadcasts",
        within_s=400,
    )
    first, then = up.rows(BROADCASTS, slug="slots")
    assert then.planned_end == begins + timedelta(minutes=1, seconds=90)
    assert timedelta(0) <= then.started_at - first.ended_at < timedelta(seconds=20)
    spans = up.rows(ROWS, slug="slots")
    whole = spans[-1].ended_at - spans[0].started_at
    covered = sum((row.ended_at - row.started_at for row in spans), timedelta(0))
    assert timedelta(0) <= whole - covered < timedelta(seconds=20)


def test_show_on_air_when_the_stack_stops_is_cancelled_and_stored(up: Any) -> None:
    """The last test of this file: it stops the stack."""
    up.start("adhoc", url=up.origin.url, name="stopped", duration="30m")
    until_analysed(up, "stopped", 5)
    up.stop()
    sql = (
        "SELECT b.status, count(*) FILTER (WHERE s.status <> 'analysed') FROM broadcasts b"
        " JOIN channels c ON c.id = b.channel_id JOIN segments s ON s.broadcast_id = b.id"
        " WHERE slug = 'stopped' GROUP BY b.id, b.status"
    )
    assert up.cli("db", "psql", "-Atc", sql).split() == ["cancelled|0"]
