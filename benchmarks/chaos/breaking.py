"""Injects and ends the faults of a plan in a running stack."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import text

from benchmarks.chaos.disk import Disk
from benchmarks.chaos.plan import Step
from benchmarks.origin.scenarios import SCENARIOS, Scenario
from benchmarks.other_clock import FAKETIME
from benchmarks.up import Up
from db.errors import DatabaseError
from flows.control.client.work_pool import put_pools
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault

POOL: Final = "other-clock"
AHEAD_S: Final = 90
"""Clock offset of the worker of the pool with a wrong clock."""

WORKER: Final = "worker start --type process"
SERVER: Final = "-m flows.stack.server"
WATCHER: Final = "-m flows.begin"

MIN_FREE_MB: Final = 16

_SCENARIOS: Final = {scenario.name: scenario for scenario in SCENARIOS}


class NotPossible(Exception):
    """The fault is not possible on this machine or now, with the reason."""


@dataclass(kw_only=True, slots=True)
class Show:
    """A show under test: its source, and the run that watches it."""

    slug: str
    origin: LiveOrigin
    pool: str
    run: str = ""


@dataclass(kw_only=True)
class Breaker:
    """Injects and ends faults, one of the machine at a time."""

    up: Up
    shows: Sequence[Show]
    disk: Disk
    chance: random.Random
    cluster: Path
    _workers: ExitStack = field(default_factory=ExitStack)
    _other: subprocess.Popen[bytes] | None = None

    def begin(self, step: Step) -> Callable[[], object]:
        """Inject a fault, and return the function that ends it. Raises NotPossible."""
        if (scenario := _SCENARIOS.get(step.name)) is not None:
            return self._of_source(scenario, step)
        of_show: dict[str, Callable[[Show], Callable[[], object]]] = {
            "watcher killed": lambda show: self._send(self._watcher(show), signal.SIGKILL),
            "watcher terminated": lambda show: self._send(self._watcher(show), signal.SIGTERM),
            "watcher stopped": lambda show: self._stop(self._watcher(show)),
            "watcher stopped until taken for dead": lambda show: self._stop(self._watcher(show)),
        }
        if step.show is not None:
            return of_show[step.name](self.shows[step.show])
        up, shared, other = self.up, "--pool shows", f"--pool {POOL}"
        of_machine: dict[str, Callable[[], Callable[[], object]]] = {
            "worker killed": lambda: self._send(up.tools(WORKER, shared), signal.SIGKILL),
            "worker stopped": lambda: self._stop(up.tools(WORKER, shared)),
            "other clock's worker killed": lambda: self._kill_other(up.tools(WORKER, other)),
            "server killed": lambda: self._send(up.tools(SERVER), signal.SIGKILL),
            "server stopped": lambda: self._stop(up.tools(SERVER)),
            "up stopped": lambda: self._stop([psutil.Process(up.process.pid)]),
            "machine rebooted": self._reboot,
            "database session ended": self._end_session,
            "database backend killed": self._kill_backend,
            "database stopped": lambda: self._stop(self._postgres()),
            "database killed": lambda: self._send(self._postgres()[:1], signal.SIGKILL),
            "database shut down at once": lambda: self._send(self._postgres()[:1], signal.SIGQUIT),
            "disk full": lambda: self._fill(0),
            "disk short": lambda: self._fill(MIN_FREE_MB << 19),
            "disk read-only": self._protect,
            "network cut": lambda: self._of_network(Fault(reset=True)),
            "network slow": lambda: self._of_network(Fault(on="segment", over_s=3.0)),
            "clock set ahead": lambda: self._set_clock(3600),
            "clock set back": lambda: self._set_clock(-600),
        }
        return of_machine[step.name]()

    # -- processes

    def _watcher(self, show: Show) -> list[psutil.Process]:
        return [each for each in self.up.of_run(show.run) if WATCHER in _line(each)]

    def _send(
        self, processes: Sequence[psutil.Process], number: signal.Signals
    ) -> Callable[[], object]:
        if not processes:
            raise NotPossible("there is no such process just now")
        for process in processes:
            with contextlib.suppress(
                psutil.NoSuchProcess
            ):  # it ended together with another process
                process.send_signal(number)
        return lambda: None

    def _stop(self, processes: Sequence[psutil.Process]) -> Callable[[], object]:
        self._send(processes, signal.SIGSTOP)

        def go_on() -> None:
            with contextlib.suppress(NotPossible):
                self._send(processes, signal.SIGCONT)

        return go_on

    def _reboot(self) -> Callable[[], object]:
        self._send([*self.up.processes(), *self._postgres()], signal.SIGKILL)
        self.up.process.wait()
        self.up.engine.dispose()
        self.up.restart()
        self.tend()
        return lambda: None

    # -- the worker with another clock, which an operator would restart

    @property
    def has_clock(self) -> bool:
        """Return whether a process can have another clock on this machine."""
        return FAKETIME is not None

    def tend(self) -> None:
        """Start it, or restart it if it has ended."""
        if self._other is not None and self._other.poll() is None:
            return
        self._workers.close()
        put_pools(self.up.api, ("shows", POOL))
        ahead_s = AHEAD_S if self.has_clock else 0
        worker = self.up.worker(POOL, ahead_s=ahead_s, settable=True)
        self._other = self._workers.enter_context(worker)

    def _kill_other(self, processes: Sequence[psutil.Process]) -> Callable[[], object]:
        self._send(processes, signal.SIGKILL)
        time.sleep(1.0)  # like a service manager
        self.tend()
        return lambda: None

    def _set_clock(self, by_s: int) -> Callable[[], object]:
        if not self.has_clock:
            raise NotPossible("no other clock here: install Debian's package libfaketime")
        self.up.set_clock(POOL, ahead_s=AHEAD_S + by_s)
        return lambda: self.up.set_clock(POOL, ahead_s=AHEAD_S)

    def close(self) -> None:
        """Stop that worker."""
        self._workers.close()

    # -- the database

    def _postgres(self) -> list[psutil.Process]:
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().split()[0])
            postmaster = psutil.Process(pid)
            if "postgres" not in _line(postmaster):
                raise NotPossible("the database does not run")
            return [postmaster, *postmaster.children(recursive=True)]
        except (OSError, psutil.NoSuchProcess, ValueError, IndexError) as e:
            raise NotPossible("the database does not run") from e

    def _sessions(self) -> list[int]:
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'showmood%'"
        sql += " AND pid <> pg_backend_pid() ORDER BY pid"
        try:
            return [row.pid for row in self.up.rows(sql)]
        except DatabaseError as e:
            raise NotPossible(str(e)) from e

    def _end_session(self) -> Callable[[], object]:
        sessions = self._sessions()
        if not sessions:
            raise NotPossible("there is no session just now")
        with self.up.engine.connect() as connection:
            chosen = {"pid": self.chance.choice(sessions)}
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), chosen)
        return lambda: None

    def _kill_backend(self) -> Callable[[], object]:
        sessions = self._sessions()
        if not sessions:
            raise NotPossible("there is no session just now")
        os.kill(self.chance.choice(sessions), signal.SIGKILL)
        return lambda: None

    # -- disk and network

    def _fill(self, leave_bytes: int) -> Callable[[], object]:
        if not self.disk.fill(leave_bytes=leave_bytes):
            raise NotPossible("no small disk here: it takes root")
        return self.disk.empty

    def _protect(self) -> Callable[[], object]:
        if not self.disk.protect():
            raise NotPossible("files are being written, or it takes root")
        return self.disk.unprotect

    def _of_network(self, fault: Fault) -> Callable[[], object]:
        for show in self.shows:
            show.origin.inject(fault)

        def mend() -> None:
            for show in self.shows:
                show.origin.heal()

        return mend

    def _of_source(self, scenario: Scenario, step: Step) -> Callable[[], object]:
        assert step.show is not None
        origin = self.shows[step.show].origin
        scenario.begin(origin)

        def mend() -> None:
            scenario.end(origin)
            origin.heal()

        return mend


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
