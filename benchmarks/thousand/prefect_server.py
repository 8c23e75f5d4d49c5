"""Prefect's server with many shows: maximum number on SQLite and on Postgres.

A show's minute has the requests of a watcher, with the same client: a task run, heartbeats,
the state, the progress, and the report. Their rate is increased like the number of shows.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil

from benchmarks.said_to_prefect import SaidToPrefect, run_a_show
from benchmarks.up import free_port, until
from flows.auth.access import Access
from flows.control.healing import BEATS
from flows.settings import Settings
from flows.stack.processes.environment import environment

PROGRAMS: Final = Path("/usr/lib/postgresql")
BEATS_A_MINUTE: Final = round(60 / (120 / BEATS))
REQUESTS: Final = 2 * BEATS_A_MINUTE + 4
"""Requests per minute of show: two per heartbeat, two for the state, two for artifacts. The three
states of the task run use a web socket."""

CLIENTS: Final = 2
REPORT_BYTES: Final = 40_000
BEHIND_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Results with a number of shows."""

    shows: int
    minutes_a_s: float
    median_s: float
    p95_s: float
    server_ms: float
    database_ms: float
    client_ms: float
    failed: int

    @property
    def is_behind(self) -> bool:
        """Whether it fell behind."""
        return self.failed > 0 or self.p95_s > BEHIND_S or self.minutes_a_s < 0.9 * self.shows / 60


def measure(
    database: str, steps: list[int], seconds: float, say: Callable[[str], None]
) -> list[Step]:
    """Add shows to a server until it falls behind. database: sqlite or postgres."""
    done: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="showmood-bench-") as name, _database(database) as url:
        home = Path(name)
        settings = Settings(home=home, prefect_database_url=url)  # type: ignore[call-arg]
        (home / "tmp").mkdir()
        port = free_port()
        access = Access.make(home)
        ours: dict[str, Any] = {
            "database_url": "postgresql://nowhere/none",
            "api_url": f"http://127.0.0.1:{port}/api",
            "access": access,
            "allow": (),
        }
        command = [sys.executable, "-m", "flows.stack.server"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        env = environment(settings, **ours, server=True)
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            with httpx.Client(headers=access.headers, trust_env=False) as client:
                until(lambda: _answers(client, port), what="Prefect's server")
            server_process = psutil.Process(server.pid)
            for shows in steps:
                step = _step(environment(settings, **ours), server_process, url, shows, seconds)
                done.append(step)
                say(
                    f"{database:8} {step.shows:5} shows: {step.minutes_a_s:5.2f} minutes/s of"
                    f" {step.shows / 60:.2f}, {step.minutes_a_s * REQUESTS:.0f} requests/s, a"
                    f" minute {step.median_s:.2f} / {step.p95_s:.2f} s, CPU a minute: server"
                    f" {step.server_ms:.0f} ms, its database {step.database_ms:.0f},"
                    f" watchers {step.client_ms:.0f}; {step.failed} failed"
                )
                if step.is_behind:
                    break
        finally:
            server.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(15)
            server.kill()
            server.wait()
    return done


def _answers(client: httpx.Client, port: int) -> bool:
    with suppress(httpx.HTTPError):
        return client.get(f"http://127.0.0.1:{port}/api/health").status_code == 200
    return False


def _step(
    env: dict[str, str], server: psutil.Process, url: str | None, shows: int, seconds: float
) -> Step:
    command = [sys.executable, "-m", "benchmarks.thousand.prefect_server"]
    command += [str(shows / 60 / CLIENTS), str(seconds)]
    clients = [
        subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for client in clients:
        assert client.stdout is not None
        client.stdout.readline()  # it has begun its run
    before = sum(server.cpu_times()[:2]), _database_s(url)
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
    told = []
    for client in clients:
        assert client.stdout is not None
        told.append(json.loads(client.stdout.readline() or '{"took": [], "failed": 1}'))
    after = sum(server.cpu_times()[:2]), _database_s(url)
    for client in clients:
        client.communicate()
    took = [each for one in told for each in one["took"]]
    n = max(1, len(took))
    lasted_s = max(one.get("lasted_s", seconds) for one in told)
    return Step(
        shows=shows,
        minutes_a_s=len(took) / lasted_s,
        median_s=float(np.median(took)) if took else float("inf"),
        p95_s=float(np.percentile(took, 95)) if took else float("inf"),
        server_ms=(after[0] - before[0]) / n * 1000,
        database_ms=(after[1] - before[1]) / n * 1000,
        client_ms=sum(one.get("cpu_s", 0.0) for one in told) / n * 1000,
        failed=sum(one["failed"] for one in told),
    )


def _database_s(url: str | None) -> float:
    if url is None:
        return 0.0
    total = 0.0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "postgres" and str(_port_of(url)) in " ".join(
                _family(process).cmdline()
            ):
                total += sum(process.cpu_times()[:2])
    return total


def _family(process: psutil.Process) -> psutil.Process:
    parent = process.parent()
    return parent if parent is not None and parent.name() == "postgres" else process


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@contextmanager
def _database(kind: str) -> Iterator[str | None]:
    """Run Debian's PostgreSQL for local users; yield None for SQLite."""
    if kind == "sqlite":
        yield None
        return
    programs = max(PROGRAMS.glob("*/bin"))
    home = Path(tempfile.mkdtemp(prefix="showmood-bench-pg-"))
    user = pwd.getpwnam("postgres")
    os.chown(home, user.pw_uid, user.pw_gid)
    as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    made = ["--username=showmood", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    initdb = [programs / "initdb", *made, f"--pgdata={home / 'data'}"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=home, **as_user)
    port = free_port()
    options = ["-D", home / "data", "-p", str(port), "-k", home, "-c", "max_connections=200"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", *options], stderr=log, cwd=home, **as_user
        )
    try:
        ready = "ready to accept connections"
        until(lambda: ready in (home / "log").read_text(), what="Postgres")
        yield f"postgresql://showmood@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def say_minutes(rate: float, seconds: float) -> None:
    """Send the requests of `rate` show minutes a second, in a flow run."""
    report = "-" * REPORT_BYTES
    told: dict[str, Any] = {"took": [], "failed": 0}

    def shows(to: SaidToPrefect) -> None:
        def say(number: int) -> None:
            to.minute()
            to.beat(BEATS_A_MINUTE)
            to.client.read_flow_run(to.run_id)
            to.state(number)
            to.report(f"{report}{number}")

        say(0)
        print("ready", flush=True)
        sys.stdin.readline()
        began, cpu_s = time.monotonic(), time.process_time()
        number = 0
        while (due := number / rate) < seconds and time.monotonic() - began < 2 * seconds:
            time.sleep(max(0.0, began + due - time.monotonic()))
            number += 1
            try:
                say(number)
            except Exception:  # noqa: BLE001 - it is what is measured
                told["failed"] += 1
            # From its due time, so that queueing counts.
            told["took"].append(time.monotonic() - began - due)
        told["lasted_s"] = max(seconds, time.monotonic() - began)
        told["cpu_s"] = time.process_time() - cpu_s

    run_a_show(report, shows)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    say_minutes(float(sys.argv[1]), float(sys.argv[2]))
