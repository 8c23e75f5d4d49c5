"""One machine's embedded stack: Postgres, a Prefect server with its UI, a worker, the demo channel.

Everything is in one folder (`.showmood` by default) and ends with the process that started it.
"""

import math
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Self

import httpx

from db.session import upgrade
from flows.auth.access import Access
from flows.control import healing
from flows.control.client.api import PrefectServer, prefect_file
from flows.control.client.machine_queue import queue_of
from flows.errors import UsageError
from flows.page.serving import make_analyst, page_access, page_url
from flows.settings import Settings
from flows.shows.applying import apply_showfile
from flows.stack.processes.child import STOP_TIMEOUT_S, Child
from flows.stack.processes.environment import environment
from flows.stack.processes.home import keep_private, make_home
from flows.stack.processes.postgres import Postgres, embedded
from flows.stack.workers.handover import runs_of
from flows.stack.workers.machine import among_machines
from flows.stack.workers.worker import REVIVE_S, revived, worker_command


def free_port(preferred: int, *, name: str, variable: str | None) -> int:
    """Return `preferred` if it is free on loopback.

    If it is not: with no `variable` another one that is, else raise UsageError naming the setting
    to change.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError as e:
            if variable is not None:
                raise UsageError(
                    f"port {preferred} for {name} is in use: stop what listens there, "
                    f"or set {variable} to another port"
                ) from e
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                return int(other.getsockname()[1])
    return preferred


def server_command(env: Mapping[str, str], port: int) -> list[str]:
    """Return the command of the Prefect server: on loopback, unless the operator sets a host."""
    host = env.get("PREFECT_SERVER_API_HOST", "127.0.0.1")
    return [sys.executable, "-m", "flows.stack.server", "--host", host, "--port", str(port)]


class Stack(AbstractContextManager["Stack"]):
    """Starts on enter, stops in reverse order on exit; `echo` is called with each step."""

    def __init__(
        self,
        settings: Settings,
        *,
        echo: Callable[[str], None],
        any_port: bool = False,
        allow: tuple[str, ...] = (),
    ) -> None:
        """Keep what is needed to start.

        any_port: take another port where the configured one is in use. allow: networks or
        host:port pairs, on top of the operator's, that the worker may fetch from.
        """
        self.settings = settings
        self.echo = echo
        self.any_port = any_port
        self.allow = allow
        self.database_url = ""
        self.ui_url = ""
        self.page_link = self.page_url = ""
        self.stopping = threading.Event()
        self.children: list[Child] = []
        self._postgres: Postgres | None = None
        self._revive_at = math.inf  # until the server is up
        self._exit = ExitStack()

    @property
    def api_url(self) -> str:
        """Return the Prefect server's API."""
        return f"{self.ui_url}/api"

    def __enter__(self) -> Self:
        """Start Postgres, the server, the work pool, the deployments and the worker."""
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel running shows, then stop everything."""
        self._exit.close()

    def environment(self, *, server: bool = False) -> dict[str, str]:
        """Return the environment of the server, or of the worker and its flows."""
        made = environment(
            self.settings,
            database_url=self.database_url,
            api_url=self.api_url,
            access=self.access,
            allow=self.allow,
            server=server,
        )
        return made | {"SHOWMOOD_PAGE_URL": self.page_url}

    def _start(self) -> None:
        settings = self.settings
        make_home(settings.home)
        keep_private()
        if os.geteuid() == 0:
            self.echo("this is root: all who can change what runs are root, too (docs/safety.md)")
        port = free_port(
            settings.ui_port,
            name="the Prefect UI",
            variable=None if self.any_port else "SHOWMOOD_UI_PORT",
        )
        self.ui_url = f"http://127.0.0.1:{port}"
        self.access = Access.make(settings.home)
        headers = self.access.headers
        self.server = self._exit.enter_context(PrefectServer(self.api_url, headers))
        if settings.database_url is None:
            self._postgres = embedded(settings, self._exit)
            self.database_url = self._postgres.url
        else:
            upgrade(settings.database_url)
            self.database_url = settings.database_url
        self.echo("Postgres is up and migrated")
        machine = among_machines(settings, self.database_url, echo=self.echo)
        self._exit.enter_context(machine)
        self._begin_page()
        self._make_tmp()
        env = self.environment(server=True)
        server = self._child("Prefect server", server_command(env, port), env)
        env = self.environment()
        server.wait_until(self.server.is_up, self.stopping)
        self.echo(f"Prefect server is up: {self.ui_url}")
        name = f"{socket.gethostname()}-{os.getpid()}"
        healing.reschedule_lost(self.api_url, settings.work_pools, headers)
        self.server.put_pools(settings.work_pools)
        for pool in settings.work_pools:
            self.server.make_queue(pool, queue_of(settings.machine_name))
        # Workers and Prefect's deploy command import Prefect for seconds: they start in parallel.
        begun = [(pool, self._begin_worker(pool, f"{name}-{pool}")) for pool in settings.work_pools]
        self._exit.callback(self._cancel_runs, {f"{name}-{pool}" for pool, _ in begun})
        dead_after_s = settings.dead_after_s
        healing.apply(self.api_url, dead_after_s=dead_after_s, headers=headers, switch_on=True)
        block = settings.notify_block
        apply_showfile(prefect_file(), env, notify_block=block, echo=self.echo)
        self.echo("deployments are in place")
        for pool, worker in begun:
            there = partial(self.server.has_worker, pool, f"{name}-{pool}")
            worker.wait_until(there, self.stopping)
            self.echo(f"worker is up, on work pool {pool!r}")
        self._revive_at = time.monotonic()

    def _begin_worker(self, pool: str, name: str) -> Child:
        command = worker_command(pool, name, self.settings.worker_limit, self.settings.machine_name)
        return self._child(f"{pool} worker", command, self.environment())

    @property
    def link(self) -> str:
        """Return the address that opens the UI in a browser."""
        return self.access.link(self.ui_url)

    def _begin_page(self) -> None:
        """Start the page, in parallel with what follows."""
        settings = self.settings
        if self._postgres is not None:
            make_analyst(self.database_url)
        variable = None if self.any_port else "SHOWMOOD_PAGE_PORT"
        port = free_port(settings.page_port, name="the page", variable=variable)
        command = [sys.executable, "-m", "flows.page.serving", "--port", str(port)]
        env = self.environment() | {"SHOWMOOD_PREFECT_UI": self.ui_url}
        if settings.page_password is not None:
            env["SHOWMOOD_PAGE_PASSWORD"] = settings.page_password
        self._child("page", command, env)
        self.page_url = page_url(settings, port)
        self.page_link = page_access(settings).link(self.page_url)

    def _make_tmp(self) -> None:
        """Make the folder of temporary files, without what killed workers left in it.

        Prefect may write a run's environment into a file there, passwords included.
        """
        tmp = self.settings.home / "tmp"
        tmp.mkdir(exist_ok=True)
        for left in tmp.glob("prefect-workspace-attempt-*"):
            shutil.rmtree(left, ignore_errors=True)

    def tend(self) -> None:
        """Restart processes that ended unexpectedly, and report it.

        Raises StackError when it keeps ending.
        """
        for part in (self._postgres, *self.children):
            if part is not None and (line := part.tend()):
                self.echo(line)
        if time.monotonic() >= self._revive_at:
            self._revive_at = time.monotonic() + REVIVE_S
            for name in revived(self.api_url, self.access.headers):
                self.echo(f"show {name} had crashed, and is on schedule again")

    def _child(self, name: str, command: list[str], env: Mapping[str, str]) -> Child:
        log = self.settings.home / "logs" / f"{name.lower().replace(' ', '-')}.log"
        child = Child(name, command, dict(env), log)
        self.children.append(child)
        self._exit.callback(child.stop)
        return child

    def _cancel_runs(self, workers: Collection[str]) -> None:
        """Cancel this stack's runs while its workers run; runs on other machines continue."""
        pools = self.settings.work_pools
        try:
            there = {name for pool in pools for name in self.server.workers(pool)}
            among = runs_of(self.settings.home) if there.difference(workers) else None
            self.server.cancel_runs(pools, self.stopping, timeout_s=STOP_TIMEOUT_S, among=among)
        except httpx.HTTPError as e:
            self.echo(f"runs could not be cancelled: {e!r}")
