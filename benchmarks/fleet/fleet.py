"""The fleet: a server behind its gate, the services, and two machines that watch."""

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import Engine, text

from benchmarks.fleet.machine import Machine
from benchmarks.fleet.services import Postgres, object_store
from benchmarks.fleet.wires import NET, SERVER, SOURCE, bridge
from benchmarks.up import free_port, until
from db.session import make_engine
from flows.auth.access import Access
from flows.control.client.api import connect
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme

NAMES: Final = ("a", "b")
DEAD_AFTER_S: Final = 30
PYTHON: Final = [sys.executable, "-m"]
SETTINGS: Final = {
    "SHOWMOOD_ALLOW_NETWORKS": f"{NET}.0/24",
    "SHOWMOOD_DEAD_AFTER_S": str(DEAD_AFTER_S),
    "SHOWMOOD_STALL_S": "5",
    "SHOWMOOD_MIN_FREE_DISK_MB": "50",
    "SHOWMOOD_WORKER_LIMIT": "8",
    "SHOWMOOD_DETECTION_SIZE_PX": "320",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Settings of every machine, which override the environment, for quick tests under load."""

_OF_SHOW: Final = "FROM segments s JOIN channels c ON c.id = s.channel_id WHERE c.slug = :slug"
_NEWEST: Final = text(f"SELECT machine {_OF_SHOW} ORDER BY started_at DESC LIMIT 1")
_COUNT: Final = text(f"SELECT count(*) {_OF_SHOW}")
_LIVE: Final = text(
    "SELECT count(*) FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
    " WHERE c.slug = :slug AND b.status = 'live'"
)


class Fleet:
    """A server and two machines, with shows to watch."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        """Start them, and wait until both workers are online."""
        self.root = root
        stack.enter_context(bridge())
        self.postgres = stack.enter_context(Postgres(secrets.token_urlsafe(16)))
        self.url = self.postgres.url
        self.engine: Engine = make_engine(self.url)
        stack.callback(self.engine.dispose)
        programme = make_programme(root / "programme.mp4", duration_s=24)
        self.origin = stack.enter_context(LiveOrigin(programme, segment_s=1.0, host=SOURCE))
        env = {key: value for key, value in os.environ.items() if not key.startswith("SHOWMOOD_")}
        env |= SETTINGS | {"SHOWMOOD_DATABASE_URL": self.url}
        env |= stack.enter_context(object_store(root))
        (root / "operator").mkdir()
        self.env = env | {"SHOWMOOD_HOME": str(root / "operator"), "SHOWMOOD_MACHINE": "operator"}
        # As the recipe in docs/operations.md.
        self.command("db", "upgrade")
        known = self._serve(env, stack)
        env |= known
        self.env |= known
        self.command("deploy")
        homes = [root / name for name in ("server", "operator", *NAMES)]
        self.machines: dict[str, Machine] = {}
        for number, name in enumerate(NAMES):
            hidden = [home for home in homes if home.name != name]
            machine = Machine(name, number, root, env, hidden)
            self.machines[name] = stack.enter_context(machine)
        for machine in self.machines.values():
            machine.start()
        for name in NAMES:
            self.until_there(name)

    def _serve(self, env: dict[str, str], stack: ExitStack) -> dict[str, str]:
        """Start Prefect's server behind the gate; return the workers' settings for it."""
        home, port = self.root / "server", free_port()
        home.mkdir()
        own = {"SHOWMOOD_HOME": str(home), "SHOWMOOD_UI_PORT": str(port)}
        own |= {"SHOWMOOD_WORK_POOLS": "server", "SHOWMOOD_UI_HOSTS": f"{SERVER}:{port}"}
        own |= {"SHOWMOOD_DEMO_PORT": str(free_port()), "SHOWMOOD_PAGE_PORT": str(free_port())}
        own |= {"PREFECT_SERVER_API_HOST": "0.0.0.0", "SHOWMOOD_MACHINE": "server"}
        log = self.root / "up.log"
        with log.open("wb") as sink:
            up = subprocess.Popen(
                [*PYTHON, "flows.cli", "up"], env=env | own, stdout=sink, stderr=sink
            )
        stack.callback(up.wait, 120)
        stack.callback(up.send_signal, signal.SIGINT)
        until(lambda: "Prefect UI" in log.read_text(), what=f"the server ({log})", within_s=360)
        access = Access.make(home)
        self.api = connect(f"http://127.0.0.1:{port}/api", access.headers)
        self.api.timeout = 60.0  # if the server is busy
        stack.callback(self.api.close)
        said = [shlex.split(line)[1] for line in self.command("env", env=own).splitlines()]
        known = dict(each.split("=", 1) for each in said)
        known["PREFECT_API_URL"] = known["PREFECT_API_URL"].replace("127.0.0.1", SERVER)
        return known

    # -- machines

    def other(self, name: str) -> str:
        """Return the name of the other machine."""
        return next(each for each in NAMES if each != name)

    def until_there(self, name: str) -> None:
        """Wait until a machine's worker is online, the process that was started last."""
        machine, worker = self.machines[name], f"{name}-shows"
        what = f"worker {name}"
        until(lambda: machine.serves and worker in self.online(), what=what, within_s=240)

    def online(self) -> set[str]:
        """Return the online workers."""
        asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
        with contextlib.suppress(httpx.HTTPError):
            answer = self.api.post("/work_pools/shows/workers/filter", json=asked)
            if answer.is_success:
                return {each["name"] for each in answer.json()}
        return set()

    def make_well(self) -> list[str]:
        """Start stopped services, like a service manager; return a line for each."""
        ended = [name for name, machine in self.machines.items() if not machine.runs]
        for name in ended:
            self.machines[name].start()
        for name in NAMES:
            self.until_there(name)
        return [f"the worker of {name} had ended" for name in ended]

    def command(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run a `showmood` command on a machine that watches nothing; return its output."""
        command = [*PYTHON, "flows.cli", *arguments]
        done = subprocess.run(
            command,
            env=self.env | (env or {}),
            cwd=self.root / "operator",
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-500:]}"
        return done.stdout + done.stderr

    # -- shows

    def start(self, slug: str, duration: str, **parameters: object) -> str:
        """Start a show; return its run."""
        found = self.api.get("/deployments/name/watch-show/adhoc").raise_for_status().json()
        given = {"url": self.origin.url, "name": slug, "duration": duration, **parameters}
        path = f"/deployments/{found['id']}/create_flow_run"
        answer = self.api.post(path, json={"parameters": given}).raise_for_status()
        return str(answer.json()["id"])

    def hosts_of(self, deployment: str) -> list[str]:
        """Return the machine of each run of a deployment, by the logs of the workers."""
        found = self.api.get(f"/deployments/name/{deployment}").raise_for_status().json()
        asked = {"flow_runs": {"deployment_id": {"any_": [found["id"]]}}}
        runs = self.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
        logs = {name: each.worker_log.read_text() for name, each in self.machines.items()}
        return [next((n for n, log in logs.items() if run["id"] in log), "?") for run in runs]

    def machine_of(self, slug: str) -> str | None:
        """Return the machine that recorded the newest row of a show."""
        with self.engine.connect() as connection:
            found: str | None = connection.scalar(_NEWEST, {"slug": slug})
        return found

    def n_rows(self, slug: str) -> int:
        """Return the number of rows of a show."""
        with self.engine.connect() as connection:
            return int(connection.scalar(_COUNT, {"slug": slug}) or 0)

    def until_rows(self, slug: str, more: int, *, on: str | None = None) -> str:
        """Wait for this many new rows of a show, the newest of a machine; return the machine."""
        wanted = self.n_rows(slug) + more

        def there() -> str | None:
            newest = self.machine_of(slug) if self.n_rows(slug) >= wanted else None
            return newest if on in (None, newest) else None

        what = f"{more} more rows of {slug} on {on or 'any machine'}"
        return str(until(there, what=what, within_s=240))

    def until_over(self, slug: str) -> None:
        """Wait until a show gets no more rows; its run may have ended before."""

        def over() -> bool:
            with self.engine.connect() as connection:
                return connection.scalar(_LIVE, {"slug": slug}) == 0

        until(over, what=f"the end of {slug}", within_s=240)

    def until_ended(self, run: str, *, within_s: float = 300) -> str:
        """Wait until a run has ended; return its state."""
        return str(until(lambda: self._ended(run), what="the run's end", within_s=within_s))

    def _ended(self, run: str) -> str | None:
        with contextlib.suppress(httpx.HTTPError):
            state = self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CANCELLED"):
                return str(state["name"])
        return None

    def until_left(self, run: str, name: str) -> float:
        """Wait until a machine has no process of a run; return the seconds."""
        began = time.monotonic()
        gone = f"the end of what {name} had of the run"
        until(lambda: not self.machines[name].has_run(run), what=gone, within_s=240)
        return time.monotonic() - began

    def rows(self, sql: str, **values: object) -> list[Any]:
        """Return the result of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values))
