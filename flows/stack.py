"""One machine's embedded stack: Postgres, a Prefect server with its UI, a worker, the demo channel.

Everything lives in one folder (`.showmood` by default) and dies with the process that started it.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self

import httpx
from sqlalchemy import text

from db.session import driver_url, make_engine, redact, upgrade
from flows import healing
from flows.apply import apply_showfile
from flows.child import STOP_TIMEOUT_S, Child
from flows.deploy import Server, prefect_file
from flows.errors import StackError, UsageError
from flows.postgres import Postgres, embedded
from flows.settings import Settings

START_TIMEOUT_S: Final = 120.0
DAY_S: Final = 86400
REPORTS_S: Final = 2 * 3600


def prefect_database(url: str) -> str:
    """Return a database's URL as Prefect's server takes it.

    Raises StackError where it lacks what Prefect needs, db.errors.DatabaseError where it is none or
    does not answer.
    """
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            known = text("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
            if connection.scalar(known) is None:
                raise StackError(
                    f"Prefect needs the extension pg_trgm, which {redact(url)} does not have: "
                    "take one with the contrib modules, or unset SHOWMOOD_PREFECT_DATABASE_URL"
                )
    finally:
        engine.dispose()
    driver = driver_url(url).set(drivername="postgresql+asyncpg")
    return driver.render_as_string(hide_password=False)


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


class Stack(AbstractContextManager["Stack"]):
    """Starts on enter, stops in reverse order on exit; `say` is told of each step."""

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None],
        any_port: bool = False,
        allow: tuple[str, ...] = (),
    ) -> None:
        """Keep what is needed to start.

        any_port: take another port where the configured one is in use. allow: networks or
        host:port pairs, on top of the operator's, that the worker may fetch from.
        """
        self.settings = settings
        self.say = say
        self.any_port = any_port
        self.allow = allow
        self.database_url = ""
        self.ui_url = ""
        self.stopping = threading.Event()
        self.children: list[Child] = []
        self._postgres: Postgres | None = None
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what runs, then stop everything."""
        self._exit.close()

    def environment(self) -> dict[str, str]:
        """Return the environment of the server, the worker and its flows."""
        home = self.settings.home
        env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return env | {
            "OMP_WAIT_POLICY": "PASSIVE",  # as in cli.main
            # Prefect keeps its runs' files in a folder of a fixed name there: another user's, once
            # two of them share a machine.
            "TMPDIR": str(home / "tmp"),
            "SHOWMOOD_HOME": str(home),
            "SHOWMOOD_DATABASE_URL": self.database_url,
            "SHOWMOOD_ALLOW_NETWORKS": ",".join((*self.settings.allow_networks, *self.allow)),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": self.api_url,
            **self._server_database(),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            **self._retention(),
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "flows.capture",
        }

    def _start(self) -> None:
        settings = self.settings
        port = free_port(
            settings.ui_port,
            name="the Prefect UI",
            variable=None if self.any_port else "SHOWMOOD_UI_PORT",
        )
        self.ui_url = f"http://127.0.0.1:{port}"
        self.server = self._exit.enter_context(Server(self.api_url))
        if settings.database_url is None:
            self._postgres = embedded(settings, self._exit)
            self.database_url = self._postgres.url
        else:
            upgrade(settings.database_url)
            self.database_url = settings.database_url
        self.say("Postgres is up and migrated")
        (settings.home / "tmp").mkdir(exist_ok=True)
        env = self.environment()
        prefect = [sys.executable, "-m", "prefect"]
        place = ["--host", "127.0.0.1", "--port", str(port)]
        server = self._child("Prefect server", [*prefect, "server", "start", *place])
        self._await(self.server.is_up, server)
        self.say(f"Prefect server is up: {self.ui_url}")
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._exit.callback(self._cancel_runs)
        healing.reschedule_lost(self.api_url)
        # Before the deployments: while a worker begins, a server on SQLite turns others away.
        for pool in settings.work_pools:
            self.server.put_pool(pool, env)
            command = [*prefect, "worker", "start", "--type", "process", "--pool", pool]
            command += ["--name", f"{name}-{pool}"]
            if settings.worker_limit is not None:
                command += ["--limit", str(settings.worker_limit)]
            there = partial(self.server.has_worker, pool, f"{name}-{pool}")
            self._await(there, self._child(f"{pool} worker", command))
            self.say(f"worker is up, on work pool {pool!r}")
        healing.apply(self.api_url, dead_after_s=settings.dead_after_s)
        block = settings.notify_block
        apply_showfile(prefect_file(), env, notify_block=block, say=self.say)
        self.say("deployments are in place")

    def tend(self) -> None:
        """Start again what has ended by itself, and say so.

        Raises StackError when it keeps ending.
        """
        for part in (self._postgres, *self.children):
            if part is not None and (said := part.tend()):
                self.say(said)

    def _retention(self) -> dict[str, str]:
        """Return what bounds Prefect's history: runs with all that hangs on them, and events."""
        vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM"
        days = self.settings.keep_runs_days
        bounds = {
            f"{vacuum}_ENABLED": "events,flow_runs" if days else "events",
            f"{vacuum}_EVENT_RETENTION_OVERRIDES": json.dumps(
                dict.fromkeys((healing.ALIVE, "prefect.flow-run.heartbeat"), DAY_S)
                # Each holds a whole report, which the artifact itself has too.
                | {"prefect.artifact.updated": REPORTS_S}
            ),
        }
        return bounds | ({f"{vacuum}_RETENTION_PERIOD": str(days * DAY_S)} if days else {})

    def _server_database(self) -> dict[str, str]:
        url = self.settings.prefect_database_url
        if url is None:
            return {}
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database(url)}

    def _child(self, name: str, command: list[str]) -> Child:
        log = self.settings.home / "logs" / f"{name.lower().replace(' ', '-')}.log"
        child = Child(name, command, self.environment(), log)
        self.children.append(child)
        self._exit.callback(child.stop)
        return child

    def _await(self, ready: Callable[[], bool], child: Child) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not ready():
            child.check()
            if time.monotonic() > end:
                raise StackError(
                    f"the {child.name} was not ready within {START_TIMEOUT_S:.0f} s "
                    f"(log: {child.log})"
                )
            self.stopping.wait(0.2)

    def _cancel_runs(self) -> None:
        try:
            self.server.cancel_runs(self.stopping, timeout_s=STOP_TIMEOUT_S)
        except httpx.HTTPError as e:
            self.say(f"runs could not be cancelled: {e!r}")
