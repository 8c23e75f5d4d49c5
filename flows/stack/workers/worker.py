"""`showmood worker`: workers as `showmood up` has them, for a Prefect server elsewhere."""

import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Final

import httpx

from db.session import make_engine, require_current
from emotion.weights import store as weights
from flows.control import healing
from flows.control.client.api import PrefectServer
from flows.control.client.machine_queue import DEFAULT_QUEUE, queue_of
from flows.errors import StackError, UsageError
from flows.live.way_to_source import read_sources
from flows.recordings.uploading import Uploads
from flows.settings import Settings, running_database
from flows.shows.applying import VERSION, credentials
from flows.stack.processes.child import Child
from flows.stack.processes.environment import worker_environment
from flows.stack.processes.home import keep_private, make_home
from flows.stack.workers.handover import DRAIN_S, leave_shows, runs_below
from flows.stack.workers.machine import among_machines, is_behind

TEND_S: Final = 0.5
REVIVE_S: Final = 30.0
"""Seconds between two searches for crashed shows."""

CORES_PER_SHOW: Final = 0.35
BYTES_PER_SHOW: Final = 500 << 20
"""Cores and memory of a show, with room to spare: a fifth of a core for its analysis
(docs/analysis.md) and 370 MB (docs/operations.md) were measured."""

HEALTH_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


def fetch_weights(settings: Settings) -> None:
    """Fetch and verify the default networks, unless they are in the cache."""
    for name in (weights.DEFAULT_DETECTOR, weights.DEFAULT_EMOTION_MODEL):
        weights.pull(name, settings.cache_dir)


def revived(api_url: str, headers: Mapping[str, str]) -> list[str]:
    """Return the crashed shows that were put back on schedule; none while the server is away."""
    try:
        return healing.revive_crashed(api_url, headers)
    except httpx.HTTPStatusError as e:
        # The server answers, but refuses: a retry may not help.
        _log.warning("crashed shows are not put back on schedule: %s", e)
        return []
    except httpx.HTTPError as e:
        _log.debug("could not look for crashed shows; will retry: %r", e)
        return []


def shows_held(cores: int, memory_bytes: int) -> int:
    """Return how many shows a machine can watch at once, at five frames a second on its CPU."""
    return max(1, min(round(cores / CORES_PER_SHOW), memory_bytes // BYTES_PER_SHOW))


def _held_here() -> int:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return shows_held(os.cpu_count() or 1, pages * size)


def worker_command(pool: str, name: str, limit: int | None, machine: str) -> list[str]:
    """Return what starts a process worker of a pool; limit: shows at once, None without bound.

    It also takes what is to run on this machine alone.
    """
    command = [sys.executable, "-m", "flows.stack.workers.show_worker", "worker", "start"]
    command += ["--type", "process", "--pool", pool, "--name", name]
    command += ["--work-queue", DEFAULT_QUEUE, "--work-queue", queue_of(machine)]
    return command if limit is None else [*command, "--limit", str(limit)]


def run_worker(
    settings: Settings,
    env: Mapping[str, str],
    *,
    pools: tuple[str, ...],
    limit: int | None,
    name: str | None,
    echo: Callable[[str], None],
) -> None:
    """Watch the shows of these pools until SIGINT or SIGTERM; then hand over those that run.

    env: names the server, PREFECT_API_URL, and what it asks for. name: of the worker, which the
    pool's name is added to; the machine's if left out. limit: shows at once; what the machine holds
    if left out.

    Raises UsageError where the server or the database is not named, DatabaseError, StackError.
    """
    if not env.get("PREFECT_API_URL"):
        raise UsageError(
            "no Prefect server: set PREFECT_API_URL to its API, http://host:4200/api; on the "
            "machine of `showmood up` there is a worker already"
        )
    engine = make_engine(running_database(settings))
    try:
        require_current(engine)
    finally:
        engine.dispose()
    make_home(settings.home)
    keep_private()
    for mistake in read_sources(settings).mistakes:
        echo(mistake)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    url = env["PREFECT_API_URL"]
    limit = limit or _held_here()
    with ExitStack() as stack:
        uploads = stack.enter_context(
            among_machines(settings, running_database(settings), echo=echo)
        )
        server = stack.enter_context(PrefectServer(url, credentials(env)))
        _make_pools(server, pools, url, settings.machine_name)
        try:
            healing.apply(url, dead_after_s=settings.dead_after_s, headers=credentials(env))
        except httpx.HTTPError as e:
            echo(f"the healing automations could not be set up, `showmood deploy` does it: {e!r}")
        fetch_weights(settings)
        children = []
        for pool in pools:
            named = f"{name or settings.machine_name}-{pool}"
            log = settings.home / "logs" / f"{pool}-worker.log"
            child = Child(
                f"{pool} worker",
                worker_command(pool, named, limit, settings.machine_name),
                worker_environment(settings),
                log,
            )
            stack.callback(child.stop)
            children.append(child)
            child.wait_until(partial(server.has_worker, pool, named), stopping)
            if stopping.is_set():
                return
            echo(
                f"worker {named} (Showmood {VERSION}) serves work pool {pool!r} of {url}, "
                f"{limit} runs at once (log: {log})"
            )
        health = partial(_health, settings, children, limit, uploads)
        left = serve(children, env, stopping, health=health, echo=echo)
    n_left = f"; {len(left)} shows continue here to their end" if left else ""
    echo(f"stopped{n_left}")


def serve(
    children: Sequence[Child],
    env: Mapping[str, str],
    stopping: threading.Event,
    *,
    health: Callable[[], str],
    echo: Callable[[str], None],
    drain_s: float = DRAIN_S,
) -> list[str]:
    """Restart workers that have ended, until `stopping` is set; then hand over their shows.

    It also hands them over when a worker keeps ending, which raises StackError. health: returns a
    line on this machine's state. Returns the runs that no other worker took.
    """
    url, headers = env["PREFECT_API_URL"], credentials(env)
    revive_at, health_at = 0.0, time.monotonic() + HEALTH_EVERY_S
    try:
        while not stopping.wait(TEND_S):
            for child in children:
                if line := child.tend():
                    echo(line)
            if time.monotonic() >= health_at:
                health_at = time.monotonic() + HEALTH_EVERY_S
                echo(health())
            if time.monotonic() >= revive_at:
                revive_at = time.monotonic() + REVIVE_S
                for revived_run in revived(url, headers):
                    echo(f"show {revived_run} had crashed, and is on schedule again")
    finally:
        left = leave_shows(children, api_url=url, headers=headers, echo=echo, within_s=drain_s)
    return left


def _health(
    settings: Settings, children: Sequence[Child], limit: int, uploads: Uploads | None
) -> str:
    """Return a line on this machine's state."""
    pids = [pid for child in children if (pid := child.tool) is not None]
    n_runs = sum(len(runs_below(pid)) for pid in pids)
    try:
        free = f"{shutil.disk_usage(settings.home).free / 1e9:.1f} GB free"
    except OSError as e:
        free = f"free disk space unknown ({e.strerror})"
    line = f"{n_runs} runs, of {limit} at most in each pool, {free}"
    behind = "" if uploads is None else f", {uploads.behind.summary()}"
    late = ", behind the air: no further show is taken" if is_behind(settings) else ""
    return f"{datetime.now(UTC):%H:%M:%S} UTC: {line}{behind}{late}"


def _make_pools(server: PrefectServer, pools: tuple[str, ...], url: str, machine: str) -> None:
    try:
        for pool in pools:
            server.make_pool(pool)
            server.make_queue(pool, queue_of(machine))
    except httpx.HTTPStatusError as e:
        hint = ""
        if e.response.status_code in (401, 403):
            hint = ": set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud"
        raise StackError(f"{url} answered {e.response.status_code}{hint}") from e
    except httpx.HTTPError as e:
        raise StackError(f"the Prefect server at {url} does not answer ({e!r})") from e
