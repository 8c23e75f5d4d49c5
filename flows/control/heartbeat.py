"""Heartbeats of a watched show's process, and checks for a cancel between them.

Not Prefect's own heartbeats: those have timestamps of the sending machine, and a machine with a
wrong clock would seem dead.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NoReturn
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.states import Cancelled

from flows.capture.waits import WaitLimit, background_thread
from flows.control.healing import ALIVE, BEATS, FLOW, OVER, was_cancelled

_log = logging.getLogger(__name__)

FINAL_HEARTBEAT_TIMEOUT_S: Final = 3.0
"""Seconds that the end of a run waits for its final heartbeat."""

AWAY_S: Final = 5.0
"""Seconds without an answer after which the server counts as unreachable."""

ASK_S: Final = 5.0
"""Seconds that a show waits to hear whether the run before it was cancelled."""

LOOK_EVERY_S: Final = 4.0
"""Seconds between two checks for a cancel of this run: its worker may miss that event."""


@contextmanager
def heartbeats(run_id: UUID, *, dead_after_s: float) -> Iterator["Heartbeat"]:
    """Send heartbeats from a background thread while the context lasts.

    run_id: of this process's flow run. dead_after_s: time after which the automation restarts a
    silent run; BEATS heartbeats are sent in it. If the run was cancelled while its worker was cut
    off, this process gets a SIGTERM, as from its worker.
    """
    over = threading.Event()
    heartbeat = Heartbeat(run_id, dead_after_s / BEATS, over)
    # With the context variables: they hold the server's URL.
    beat = partial(copy_context().run, heartbeat.beat)
    with background_thread(beat, over, name=f"heartbeat-{run_id}", end_s=FINAL_HEARTBEAT_TIMEOUT_S):
        yield heartbeat


def skip_gc_at_exit() -> None:
    """End this process without a final garbage collection, which takes seconds.

    A worker kills a process that has not ended 30 s after its cancel.
    """
    gc.disable()
    gc.freeze()


def exit_at_once() -> NoReturn:
    """End this process at once, without a final state: another process continues the run."""
    with suppress(Exception):
        logging.shutdown()  # sends pending logs to the server
    os._exit(0)


def outlive_worker() -> None:
    """Let this process continue when its worker, which reads its output, has died.

    Else Prefect's console logger ends the process at its next line (broken pipe).
    """
    loggers = [logging.getLogger(), *map(logging.getLogger, tuple(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.console.on_broken_pipe = _write_nowhere  # type: ignore[method-assign]


def _write_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Heartbeat:
    """Sends the heartbeats, on a thread.

    was_obeyed: whether this thread passed a cancel on to its process.
    """

    def __init__(self, run_id: UUID, every_s: float, over: threading.Event) -> None:
        """Keep the arguments; nothing is sent yet."""
        self.was_obeyed = False
        self._run_id = run_id
        self._every_s = every_s
        self._over = over
        self._worker = os.getppid()
        self._was_away = False
        self._was_cancelling = False

    def beat(self) -> None:
        """Send heartbeats until the end; the show continues when the server does not answer."""
        fails = False
        with get_client(sync_client=True) as client:
            while True:
                over, began = self._over.is_set(), time.monotonic()
                try:
                    self._beat_once(client, OVER if over else ALIVE)
                except Exception as e:  # noqa: BLE001 - a server that is away is no reason to end
                    if not fails:
                        _log.warning("a heartbeat could not be sent; will retry: %r", e)
                    fails = self._was_away = True
                else:
                    fails = False
                # Prefect's client has retried while the server was away.
                self._was_away |= time.monotonic() - began > AWAY_S
                if over:
                    return
                self._wait(client)

    def _wait(self, client: SyncPrefectClient) -> None:
        """Wait for the next heartbeat, and check for a cancel that the worker may have missed.

        A worker's subscription to cancels ends when the server is away for half a minute.
        """
        end = time.monotonic() + self._every_s
        while (left_s := end - time.monotonic()) > 0:
            is_alone = self._was_away or os.getppid() != self._worker
            if self._over.wait(min(left_s, LOOK_EVERY_S) if is_alone else left_s):
                return
            if is_alone and time.monotonic() < end:
                try:
                    self._obey(client.read_flow_run(self._run_id))
                except Exception as e:  # noqa: BLE001 - as above
                    _log.debug("could not check for a cancel: %r", e)

    def _beat_once(self, client: SyncPrefectClient, event: str) -> None:
        answer = client.request("GET", "/flow_runs/{id}", path_params={"id": self._run_id})
        run = FlowRun.model_validate(answer.json())
        client.request("POST", "/events", json=[_event(event, run, _clock(answer.headers))])
        if event == ALIVE:
            self._obey(run)
        elif run.state_type == StateType.CANCELLING:
            # Everything is stored. Its worker sets this state, too, but seconds later.
            client.set_flow_run_state(self._run_id, cancelled())

    def _obey(self, run: FlowRun) -> None:
        """End this process if its run was cancelled, and its worker has not done it in time."""
        if self.was_obeyed:
            return
        cancelling = run.state_type == StateType.CANCELLING
        if run.state_type == StateType.CANCELLED or (cancelling and self._was_cancelling):
            self.was_obeyed = True
            os.kill(os.getpid(), signal.SIGTERM)
        self._was_cancelling = cancelling


def cancelled() -> State[None]:
    """Return the state of a cancelled run that has stored everything."""
    return Cancelled(message="Cancelled; what was recorded is stored.")


def run_was_cancelled(run_id: str, *, within_s: float = ASK_S) -> bool:
    """Return whether another run was cancelled; False if the server does not answer in time."""

    def ask() -> bool:
        with get_client(sync_client=True) as client:
            return was_cancelled(client.read_flow_run_states(UUID(run_id)))

    wait_limit = WaitLimit()
    wait_limit.ends_at = time.monotonic() + within_s
    try:
        return wait_limit.run(partial(copy_context().run, ask), name="was-cancelled")
    except Exception as e:  # noqa: BLE001 - the show is not kept waiting by a server that is away
        _log.warning("whether run %s was cancelled is not known: %r", run_id, e)
        return False


def _clock(headers: object) -> datetime:
    """Return the server's time, from its response's Date header; ours without one."""
    date = getattr(headers, "get", lambda name: None)("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


def _event(name: str, run: FlowRun, occurred: datetime) -> dict[str, object]:
    return {
        "id": str(uuid4()),
        "event": name,
        "occurred": occurred.isoformat(),
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{run.id}",
            "prefect.resource.name": run.name,
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": FLOW,
            }
        ],
    }
