"""A long stretch of a channel analysed again by many runs at once, one a broadcast.

A broadcast is one run, in order, since its tracks go on from segment to segment. What was asked for
before is not asked for twice: the same command goes on with the runs that it made.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from flows.control.client.api import FINAL, PrefectServer, connect
from flows.control.client.machine_queue import forwarded_tag, run_on

DEPLOYMENT: Final = "analyse-recording/by-hand"
ASK_EVERY_S: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The part of one run. machine: where it must run; None for any. key: for idempotency."""

    parameters: Mapping[str, Any]
    machine: str | None
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How it went: runs that are done, and a line on each that failed."""

    done: int
    failed: tuple[str, ...]


def replay_wide(
    pieces: Sequence[Piece],
    *,
    api_url: str,
    headers: Mapping[str, str],
    on_progress: Callable[[float], None],
) -> Outcome:
    """Have each piece analysed by a run, and wait for all of them.

    A failed run of before is put on schedule again. Runs that a run hands on to other machines are
    waited for, too. tell: called with the percentage that is done.
    The runs go on if the caller stops waiting. Raises httpx.HTTPError.
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
            time.sleep(ASK_EVERY_S)
    bad = [state for state in states if state.state != "COMPLETED"]
    said = tuple(f"{each.name}: {each.state_name}, {each.message}" for each in bad)
    return Outcome(done=len(states) - len(bad), failed=said)


def _forwarded(http: httpx.Client, runs: Sequence[str]) -> list[str]:
    """Return the runs that these have started on other machines."""
    if not runs:
        return []
    asked = {"flow_runs": {"tags": {"any_": [forwarded_tag(run) for run in runs]}}}
    answer = http.post("/flow_runs/filter", json=asked)
    return [str(run["id"]) for run in answer.raise_for_status().json()]
