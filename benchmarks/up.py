"""A stack of `showmood up` in separate processes, for tests and benchmarks with faults."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil
from sqlalchemy import text

from benchmarks.other_clock import FAKETIME, other_clock
from db.session import make_engine
from flows.auth.access import Access
from flows.control.client.api import connect
from flows.demo.channel import LiveOrigin

T = TypeVar("T")
SEGMENT_S: Final = 1.0
START_S: Final = 360.0
"""Maximum seconds for a stack on a busy machine."""


def until(found: Callable[[], T | None], *, what: str, within_s: float = 120.0) -> T:
    """Return the first true result of `found`."""
    pause, pause_s = threading.Event(), 0.005
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        pause.wait(pause_s)
        pause_s = min(0.1, 2 * pause_s)
    raise AssertionError(f"{what}: not within {within_s} s")


def free_port() -> int:
    """Return a free port outside the ephemeral range, for a process that will start."""
    # Each test process has its own part of the range, so that they cannot collide.
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
    for port in random.sample(range(20_000 + part * 3_000, 23_000 + part * 3_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


class Up:
    """A stack of `showmood up`, and a live channel."""

    def __init__(self, home: Path, origin: LiveOrigin, env: dict[str, str]) -> None:
        """Start it, and wait until it is up. env: settings that override those for a quick test."""
        self.home = home
        self.origin = origin
        self.port = free_port()
        self.env = os.environ | {
            "SHOWMOOD_HOME": str(home),
            "SHOWMOOD_UI_PORT": str(self.port),
            "SHOWMOOD_DEMO_PORT": str(free_port()),
            "SHOWMOOD_PAGE_PORT": str(free_port()),
            "SHOWMOOD_ALLOW_NETWORKS": "127.0.0.1/32",
            "SHOWMOOD_SEGMENT_S": str(SEGMENT_S),
            "SHOWMOOD_STALL_S": "5",
            "SHOWMOOD_MIN_FREE_DISK_MB": "50",
            **env,
        }
        self.env.pop("SHOWMOOD_DATABASE_URL", None)
        self.log = home / "up.log"
        self.until = until
        self.has_clocks = FAKETIME is not None
        self.ui_url = f"http://127.0.0.1:{self.port}"
        self.api = connect(f"{self.ui_url}/api", Access.make(home).headers)
        self.restart()

    def restart(self) -> None:
        """Start it again, and wait until it reports that it is up."""
        with self.log.open("w") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "up"],
                env=self.env,
                stdout=sink,
                stderr=sink,
                text=True,
            )

        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return "Prefect UI" in self.log.read_text()

        try:
            until(ready, what="showmood up", within_s=START_S)
        except BaseException:
            self.process.kill()  # and its descendants
            self.process.wait()
            raise
        self.engine = make_engine(self.cli("db", "url").strip())

    @property
    def link(self) -> str:
        """Return the link to its UI, from its output."""
        found = re.search(r"Prefect UI: (\S+)", self.log.read_text())
        assert found is not None
        return found[1]

    def cli(self, *arguments: str) -> str:
        """Return the output of `showmood ...`."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=True
        ).stdout

    def stop(self) -> None:
        """Stop it with SIGINT, like Ctrl-C."""
        self.engine.dispose()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def is_up(self) -> bool:
        """Return whether the server answers."""
        try:
            return self.api.get("/health").is_success
        except httpx.TransportError:
            return False

    def create_run(self, deployment: str, **parameters: object) -> httpx.Response:
        """Create a run, like the UI's Custom run."""
        found = self.api.get(f"/deployments/name/watch-show/{deployment}").raise_for_status().json()
        return self.api.post(
            f"/deployments/{found['id']}/create_flow_run", json={"parameters": parameters}
        )

    def deploy(self, name: str, *, pool: str, schedules: Sequence[object] = ()) -> None:
        """Deploy the show of `adhoc` under another name; slots are scheduled within seconds."""
        adhoc = self.api.get("/deployments/name/watch-show/adhoc").raise_for_status().json()
        kept = ("flow_id", "entrypoint", "path", "pull_steps", "parameter_openapi_schema", "tags")
        made = {key: adhoc[key] for key in kept} | {"name": name, "work_pool_name": pool}
        made["schedules"] = list(schedules)
        self.api.post("/deployments/", json=made).raise_for_status()

    @contextmanager
    def worker(
        self, pool: str, *, ahead_s: int = 0, settable: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker as if started by hand, with a clock ahead by this much.

        settable: `set_clock` can change that clock later.
        """
        (ours, *_) = self.tools("worker start --type process")
        env = ours.environ()
        # It keeps the umask of its parent, because the stack does not control it.
        env["TMPDIR"] = str(self.home / "by-hand")
        (self.home / "by-hand").mkdir(exist_ok=True)
        if ahead_s:
            self.set_clock(pool, ahead_s=ahead_s)
            env |= other_clock(self._clock(pool).parent, ahead_s=ahead_s)
            if settable:
                del env["FAKETIME"]
                env |= {"FAKETIME_TIMESTAMP_FILE": str(self._clock(pool))}
                env |= {"FAKETIME_CACHE_DURATION": "1"}
        command = [sys.executable, "-m", "prefect", "worker", "start"]
        with (self.home / f"{pool}-worker.log").open("ab") as sink:
            process = subprocess.Popen(
                [*command, "--type", "process", "--pool", pool],
                env=env,
                stdout=sink,
                stderr=sink,
            )
        try:
            there = f"/work_pools/{pool}/workers/filter"

            def ready() -> bool:
                assert process.poll() is None, (self.home / f"{pool}-worker.log").read_text()
                answer = self.api.post(there, json={})
                return answer.is_success and bool(answer.json())

            until(ready, what=f"a worker of {pool}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # waits for a busy server
                process.kill()
                process.wait()

    def set_clock(self, pool: str, *, ahead_s: int) -> None:
        """Set the clock of a pool's worker, and of its shows, within a second."""
        self._clock(pool).parent.mkdir(exist_ok=True)
        set_later = self._clock(pool).with_suffix(".set")
        set_later.write_text(f"{ahead_s:+d}s\n")
        set_later.replace(self._clock(pool))

    def _clock(self, pool: str) -> Path:
        return self.home / "clock" / pool

    def start(self, deployment: str, **parameters: object) -> str:
        """Start a run, and return its id."""
        return str(self.create_run(deployment, **parameters).raise_for_status().json()["id"])

    def cancel(self, run: str) -> None:
        """Cancel a run, like the UI."""
        state = {"state": {"type": "CANCELLING"}}
        self.api.post(f"/flow_runs/{run}/set_state", json=state).raise_for_status()

    def ended(self, run: str) -> dict[str, Any] | None:
        """Return the final state of a run; None while it is running."""
        state = self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        return state if state["type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else None

    def states(self, run: str) -> list[str]:
        """Return the names of a run's states, in order."""
        answer = self.api.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status()
        return [state["name"] for state in sorted(answer.json(), key=lambda s: s["timestamp"])]

    def rows(self, sql: str, **values: object) -> list[Any]:
        """Return the result of a query of its database."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values))

    def processes(self, *marks: str, but: str | None = None) -> list[psutil.Process]:
        """Return the processes of this stack whose command line has all marks, and not `but`."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                wanted = all(mark in line for mark in marks) and (but is None or but not in line)
                if wanted and (process.environ().get("SHOWMOOD_HOME") == str(self.home)):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def of_run(self, run: str) -> list[psutil.Process]:
        """Return the processes of a run."""
        found = []
        for process in self.processes():
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID") == run:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def tools(self, *marks: str) -> list[psutil.Process]:
        """Return those that do not supervise other processes."""
        return self.processes(*marks, but="keeper.py")

    def postgres(self) -> list[psutil.Process]:
        """Return the processes of its database."""
        cluster = self.engine.connect()
        with cluster:
            directory = cluster.execute(text("SHOW data_directory")).scalar_one()
        pid = int((Path(directory) / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]
