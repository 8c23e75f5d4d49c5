"""The main job with real parts: live HLS over HTTP, a Prefect server, a worker, Postgres."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from sqlalchemy import Engine, text

from db.session import make_engine
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

T = TypeVar("T")
SEGMENT_S = 1.0


def until(found: Callable[[], T | None], *, what: str, within_s: float = 120.0) -> T:
    """Return what `found` gives as soon as it gives something."""
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        pause.wait(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Up:
    """A stack that `showmood up` keeps, and a live channel of our own."""

    home: Path
    process: subprocess.Popen[str]
    api: httpx.Client
    origin: LiveOrigin
    engine: Engine

    def create_run(self, deployment: str, **parameters: object) -> httpx.Response:
        """Do what the UI's Custom run does."""
        found = self.api.get(f"/deployments/name/watch-show/{deployment}").raise_for_status().json()
        return self.api.post(
            f"/deployments/{found['id']}/create_flow_run", json={"parameters": parameters}
        )

    def start(self, deployment: str, **parameters: object) -> str:
        return str(self.create_run(deployment, **parameters).raise_for_status().json()["id"])

    def ended(self, run: str) -> dict[str, Any] | None:
        state = self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        return state if state["type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else None

    def rows(self, sql: str, **values: object) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values))

    def processes(self, *marks: str) -> list[psutil.Process]:
        """Return the processes of this stack whose command line holds all the marks."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                if all(mark in line for mark in marks) and (
                    process.environ().get("SHOWMOOD_HOME") == str(self.home)
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("home")
    port = free_port()
    env = os.environ | {
        "SHOWMOOD_HOME": str(home),
        "SHOWMOOD_UI_PORT": str(port),
        "SHOWMOOD_DEMO_PORT": str(free_port()),
        "SHOWMOOD_ALLOW_NETWORKS": "127.0.0.1/32",
        "SHOWMOOD_SEGMENT_S": str(SEGMENT_S),
        "SHOWMOOD_STALL_S": "5",
        "SHOWMOOD_MIN_FREE_DISK_MB": "50",
    }
    env.pop("SHOWMOOD_DATABASE_URL", None)
    said = home / "up.log"
    with ExitStack() as stack:
        programme = make_programme(home / "programme.mp4", duration_s=24)
        origin = stack.enter_context(LiveOrigin(programme, segment_s=SEGMENT_S))
        sink = stack.enter_context(said.open("w"))
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up"], env=env, stdout=sink, stderr=sink, text=True
        )
        stack.callback(stop, process)

        def ready() -> bool:
            assert process.poll() is None, said.read_text()
            return "Prefect UI" in said.read_text()

        until(ready, what="showmood up", within_s=180)
        url = subprocess.run(
            [sys.executable, "-m", "flows.cli", "db", "url"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        engine = make_engine(url)
        stack.callback(engine.dispose)
        api = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30, trust_env=False)
        )
        yield Up(home=home, process=process, api=api, origin=origin, engine=engine)


def stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_bad_parameters_are_refused_by_the_form(up: Up) -> None:
    answer = up.create_run("adhoc", url=up.origin.url, duration="soon")
    assert answer.is_client_error
    assert "duration" in answer.text or "soon" in answer.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "http"),
        ("concat:/etc/passwd|/etc/hosts", "not allowed|http"),
    ],
)
def test_bad_url_fails_the_run_with_one_line(up: Up, url: str, said: str) -> None:
    run = up.start("adhoc", url=url, name="bad")
    state = until(lambda: up.ended(run), what="the run's end")
    assert state["type"] == "FAILED"
    assert "\n" not in state["message"]
    assert any(word in state["message"] for word in said.split("|"))
    assert up.rows("SELECT 1 FROM channels WHERE slug = 'bad'") == []


def test_killed_watcher_goes_on_where_it_stopped(up: Up) -> None:
    """SIGKILL mid-show, start again: same broadcast, same tracks, no row twice, no orphan."""
    show = {"url": up.origin.url, "name": "killed", "duration": "40s"}
    first = up.start("adhoc", **show)
    analysed = "SELECT count(*) FROM segments WHERE status = 'analysed'"
    until(lambda: up.rows(analysed)[0][0] >= 4, what="four segments", within_s=180)
    (pid_file,) = (up.home / "recordings" / "killed").rglob("ffmpeg.pid")
    os.kill(json.loads(pid_file.read_text())["owner"], signal.SIGKILL)
    until(lambda: not up.processes("ffmpeg", str(up.home / "recordings")), what="ffmpeg's end")
    before = up.rows("SELECT id, status FROM broadcasts")
    assert [status for _, status in before] == ["live"]

    second = up.start("adhoc", **show)
    state = until(lambda: up.ended(second), what="the second run's end", within_s=180)
    assert state["type"] == "COMPLETED", state["message"]
    assert until(lambda: up.ended(first), what="the first run's end")["type"] == "CRASHED"

    assert up.rows("SELECT id, status FROM broadcasts") == [(before[0][0], "completed")]
    segments = up.rows(
        "SELECT sequence, started_at, ended_at, status FROM segments ORDER BY started_at"
    )
    assert [s.sequence for s in segments] == list(range(len(segments)))
    assert all(a.ended_at <= b.started_at for a, b in itertools.pairwise(segments))
    assert {s.status for s in segments} == {"analysed"}
    # Every moment is either recorded or a gap with a reason; what the source still listed when
    # the second watcher asked is recorded, so there may be none.
    gaps = up.rows("SELECT started_at, ended_at, why FROM gaps")
    assert all(gap.why for gap in gaps)
    covered = sum((s.ended_at - s.started_at).total_seconds() for s in [*segments, *gaps])
    whole = (segments[-1].ended_at - segments[0].started_at).total_seconds()
    assert covered == pytest.approx(whole, abs=0.2)
    tracks = up.rows("SELECT track_no FROM face_tracks ORDER BY first_ts, track_no")
    assert [t.track_no for t in tracks] == sorted({t.track_no for t in tracks})
    assert up.rows("SELECT count(*) FROM emotion_history WHERE channel = 'killed'")[0][0] > 20
    assert not up.processes("ffmpeg", str(up.home / "recordings"))


def test_prefect_sees_a_task_run_a_minute_and_a_report(up: Up) -> None:
    runs = up.api.post("/flow_runs/filter", json={}).raise_for_status().json()
    done = next(r for r in runs if r["state_type"] == "COMPLETED")
    assert done["name"].startswith("killed ")
    tasks = up.api.post(
        "/task_runs/filter", json={"flow_runs": {"id": {"any_": [done["id"]]}}}
    ).json()
    names = [t["name"] for t in tasks if t["name"].startswith("killed ")]
    assert 1 <= len(names) <= 2
    artifacts = up.api.post("/artifacts/latest/filter", json={}).raise_for_status().json()
    report = next(a for a in artifacts if a["key"] == "show-killed")
    assert "data:image/png;base64," in report["data"]


def test_cancelled_run_keeps_what_was_recorded(up: Up) -> None:
    run = up.start("adhoc", url=up.origin.url, name="cancelled", duration="10m")
    rows = "SELECT count(*) FROM emotion_history WHERE channel = 'cancelled'"
    until(lambda: up.rows(rows)[0][0] > 0, what="rows", within_s=180)
    up.api.post(
        f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}
    ).raise_for_status()
    state = until(lambda: up.ended(run), what="the run's end", within_s=60)
    assert state["type"] == "CANCELLED"
    closed = (
        "SELECT b.status FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
        " WHERE c.slug = 'cancelled'"
    )
    until(lambda: up.rows(closed)[0][0] != "live", what="the broadcast's end")
    assert up.rows(closed)[0][0] == "cancelled"
    assert not up.processes("ffmpeg", str(up.home / "recordings"))


def test_stopping_leaves_nothing_running_and_the_rows(up: Up) -> None:
    env = os.environ | {"SHOWMOOD_HOME": str(up.home)}
    up.engine.dispose()
    stop(up.process)
    assert up.process.returncode == 0, (up.home / "up.log").read_text()
    assert up.processes() == []
    png = up.home / "timeline.png"
    report = subprocess.run(
        [sys.executable, "-m", "flows.cli", "report", "killed", "--since", "1h", "--png", str(png)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "tracks" in report
    assert png.read_bytes().startswith(b"\x89PNG")
    sql = "SELECT count(*) FROM broadcasts"
    answer = subprocess.run(
        [sys.executable, "-m", "flows.cli", "db", "psql", "-Atc", sql],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(answer) == 2
