"""Reanalysis of a long time range by parallel runs, one for each broadcast.

A broadcast is one run, as its tracks continue from segment to segment. Idempotent: the same command
again continues with the runs that it has made.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from flows.control.client.api import FINAL, PrefectServer, connect
from flows.control.client.machine_queue import forwarded_tag, run_on

DEPLOYMENT: Final = "analyse-recording/by-hand"
POLL_S: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The part of one run. machine: where it must run; None for any. key: idempotency key."""

    parameters: Mapping[str, Any]
    machine: str | None
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result: the number of completed runs, and a line for each failed one."""

    done: int
    failed: tuple[str, ...]


def replay_wide(
    pieces: Sequence[Piece],
    *,
    api_url: str,
    headers: Mapping[str, str],
    on_progress: Callable[[float], None],
) -> Outcome:
    """Start a run for each piece, and wait for all of them.

    A failed earlier run is rescheduled. Runs that a run forwards to other machines are waited for,
    too. on_progress: called with the percentage done. The runs continue if the caller stops
    waiting. Raises httpx.HTTPError.
    """
    with connect(api_url, headers) as http, PrefectServer(api_url, headers) as server:
        found = http.get(f"/deployments/name/{DEPLOYMENT}").raise_for_status().json()
        runs: list[str] = []
        for piece in pieces:
            run = run_on(
                piece.machine,
                deployment=found["id"],
                parameters=piece.parameters,
                api_url=api_url,
                headers=headers,
                key=piece.key,
            )
            if run["state"]["type"] in FINAL and run["state"]["type"] != "COMPLETED":
                state = {"type": "SCHEDULED", "message": "Asked for again."}
                body = {"state": state, "force": True}
                http.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
            runs.append(run["id"])
        while True:
            states = [server.read_run(run) for run in runs]
            over = [state for state in states if state.state in FINAL]
            runs += [run for run in _forwarded(http, [each.id for each in over]) if run not in runs]
            on_progress(100.0 * len(over) / max(1, len(runs)))
            if len(over) == len(runs):
                break
            time.sleep(POLL_S)
    bad = [state for state in states if state.state != "COMPLETED"]
    failed = tuple(f"{each.name}: {each.state_name}, {each.message}" for each in bad)
    return Outcome(done=len(states) - len(bad), failed=failed)


def _forwarded(http: httpx.Client, runs: Sequence[str]) -> list[str]:
    """Return the runs that these have started on other machines."""
    if not runs:
        return []
    query = {"flow_runs": {"tags": {"any_": [forwarded_tag(run) for run in runs]}}}
    answer = http.post("/flow_runs/filter", json=query)
    return [str(run["id"]) for run in answer.raise_for_status().json()]
