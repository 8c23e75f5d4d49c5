"""A worker that ends hands its shows to others: each continues here until another waits for it.

Prefect's worker stops its runs when it stops; so it is killed, which the runs survive.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from flows.control.client.api import connect
from flows.control.healing import FLOW
from flows.stack.processes.child import Child

DRAIN_S: Final = 60.0
"""Seconds that a worker that ends waits for others to take its shows over."""

_RUN_ID: Final = b"PREFECT__FLOW_RUN_ID="


def runs_below(worker: int) -> dict[str, int]:
    """Return the runs whose processes a worker has started, with their pids; by /proc."""
    found: dict[str, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent != worker:
                continue
            variables = (place / "environ").read_bytes().split(b"\0")
            run = next(each for each in variables if each.startswith(_RUN_ID))
            found[run.removeprefix(_RUN_ID).decode()] = int(place.name)
    return found


def runs_of(home: Path) -> set[str]:
    """Return the runs whose processes are of this home, also of workers that are gone; by /proc."""
    found: set[str] = set()
    own = b"SHOWMOOD_HOME=" + os.fsencode(home)
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (place / "environ").read_bytes().split(b"\0")
            ids = [each for each in variables if each.startswith(_RUN_ID)]
            if own in variables:
                found |= {each.removeprefix(_RUN_ID).decode() for each in ids}
    return found


def hand_over(
    runs: Mapping[str, int],
    *,
    api_url: str,
    headers: Mapping[str, str],
    echo: Callable[[str], None],
    within_s: float = DRAIN_S,
) -> list[str]:
    """Let other workers continue these runs; return those that none took within the time.

    Those continue in their processes, to their end.
    """
    shows = dict(runs)
    with connect(api_url, headers) as http:
        for run, pid in runs.items():
            try:
                if not _is_show(http, run):
                    del shows[run]
                    continue
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
                state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
                state["message"] = "Its worker ends: the next worker goes on with it."
                body = {"state": state, "force": True}
                http.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()
            except httpx.HTTPError as e:
                # A busy server may still process the request after the timeout.
                echo(f"it is unknown whether run {run} is handed over: {e!r}")
    if shows:
        n, limit = len(shows), f"{within_s:.0f} s"
        echo(f"{n} shows are handed over: other workers have {limit} to take them")
    end, pause = time.monotonic() + within_s, threading.Event()
    while (left := _living(shows)) and time.monotonic() < end:
        pause.wait(0.2)
    return left


def leave_shows(
    children: Iterable[Child],
    *,
    api_url: str,
    headers: Mapping[str, str],
    echo: Callable[[str], None],
    within_s: float = DRAIN_S,
) -> list[str]:
    """Kill workers, which their shows survive, and hand these over; return as `hand_over`."""
    below: dict[str, int] = {}
    for child in children:
        if (pid := child.tool) is not None:
            below |= runs_below(pid)
        child.kill()
    return hand_over(below, api_url=api_url, headers=headers, echo=echo, within_s=within_s)


def _is_show(http: httpx.Client, run: str) -> bool:
    found = http.get(f"/flow_runs/{run}").raise_for_status().json()
    flow = http.get(f"/flows/{found['flow_id']}").raise_for_status().json()
    return bool(flow["name"] == FLOW and found["state_type"] == "RUNNING")


def _living(runs: Mapping[str, int]) -> list[str]:
    return [run for run, pid in runs.items() if run in _ids(pid)]


def _ids(pid: int) -> Iterable[str]:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "ZX":
            return []
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return [
            each.removeprefix(_RUN_ID).decode() for each in variables if each.startswith(_RUN_ID)
        ]
    return []
