"""The automations that restart shows whose process has died, and the limit of a shared GPU.

A run without heartbeats (`heartbeat`), one whose process exited with an error, and one that Crashed
otherwise are rescheduled. The next worker continues it, as the same run, in its broadcast, for the
rest of the planned time.

A worker reports a process that exited with an error twice: before it loads the flow to look for
hooks, which takes seconds, and after (Prefect 3.8.8, `runner/_flow_run_executor.py` and
`workers/base.py`). A run rescheduled in between would be set to Crashed by the second report. So
such a run is rescheduled only after that.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from prefect.client.schemas.objects import State, StateType

from flows.control.client.api import connect
from flows.errors import UsageError
from flows.show import DEFAULT_DURATION, MAX_SHOW, parse_duration

FLOW: Final = "watch-show"
ALIVE: Final = "showmood.watch.alive"
OVER: Final = "showmood.watch.over"
BEATS: Final = 6
"""Heartbeats within the time after which a silent run is rescheduled (dead_after_s)."""

MIN_CRASH_INTERVAL_S: Final = 60
"""Seconds; a run that crashes again sooner stays Crashed, as a restart does not help."""

CRASHED_FOR_S: Final = 60.0
"""Seconds in Crashed after which the automations have surely not acted."""

MAX_CRASHES: Final = 5
"""Crashes after which a run is not rescheduled, as a restart does not help."""

GPU: Final = "gpu"
GPU_SHOWS: Final = 4
"""Initial limit of shows on the GPUs; changed in the UI."""

WORKER_REPORTED: Final = "prefect.worker.executed-flow-run"
"""A worker's event after it has reported a process's end, with the exit code."""

_WATCH: Final = {"prefect.resource.role": "flow", "prefect.resource.name": FLOW}
_ENDED_BADLY: Final = {
    "prefect.resource.role": "flow-run",
    "prefect.infrastructure.status-code": "!0",
}
_EXITED: Final = "*exited with*"
"""Part of the message of states that a worker sets for an exit code."""

_STARTS: Final = ("Running", "Retrying", "Rerunning")
_ENDS: Final = ("Completed", "Failed", "Cancelled", "Cancelling", "AwaitingRetry", "Skipped")
"""Without Crashed: if its own automation fails, the one for missing heartbeats restarts the run."""

_GOES_ON: Final = "the next worker goes on with it."


def automations(dead_after_s: float) -> list[dict[str, Any]]:
    """Return the three automations for Prefect's API: missing heartbeats, process exit and crash.

    All their events have timestamps of the server's clock.
    """
    starts = [ALIVE, *(f"prefect.flow-run.{name}" for name in _STARTS)]
    ends = [OVER, *(f"prefect.flow-run.{name}" for name in _ENDS)]
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    of_shows = {"type": "event", "match_related": _WATCH, "threshold": 1}
    each = {"for_each": ["prefect.resource.id"]}
    at_once = {"posture": "Reactive", "within": MIN_CRASH_INTERVAL_S}
    return [
        {
            "name": "showmood: a silent show goes on",
            "description": f"No sign of life of a show for {dead_after_s:g} s: the next worker "
            "goes on with it while its planned time is not over.",
            "enabled": True,
            "trigger": of_shows
            | each
            | {"match": runs, "posture": "Proactive", "within": dead_after_s}
            | {"after": starts, "expect": [*starts, *ends]},
            "actions": [_reschedule(f"No sign of life for {dead_after_s:g} s")],
        },
        {
            "name": "showmood: a show whose process is gone goes on",
            "description": "A show's process was killed, or ended with an error: the next worker "
            "goes on with it while its planned time is not over.",
            "enabled": True,
            "trigger": of_shows
            | at_once
            | {"match_related": [_WATCH, _ENDED_BADLY], "expect": [WORKER_REPORTED]}
            | {"for_each": ["related:flow-run:prefect.resource.id"]},
            "actions": [_reschedule("Its process was gone")],
        },
        {
            "name": "showmood: a crashed show goes on",
            "description": "A show crashed otherwise, as where its process could not be started: "
            "the next worker goes on with it while its planned time is not over.",
            "enabled": True,
            "trigger": of_shows
            | each
            | at_once
            | {"match": runs | {"prefect.state-message": f"!{_EXITED}"}}
            | {"expect": ["prefect.flow-run.Crashed"]},
            "actions": [_reschedule("It had crashed")],
        },
    ]


def _reschedule(why: str) -> dict[str, str]:
    message = f"{why}: {_GOES_ON}"
    return {"type": "change-flow-run-state", "state": "SCHEDULED", "name": "AwaitingRetry"} | {
        "message": message
    }


def apply(
    api_url: str,
    *,
    dead_after_s: float,
    headers: Mapping[str, str] | None = None,
    switch_on: bool = False,
) -> None:
    """Put the automations and the GPU limit on a server; idempotent.

    A limit changed by the user is kept. switch_on: switch on automations that were switched off.
    Raises httpx.HTTPError when the server does not answer or refuses.
    """
    with connect(api_url, headers) as http:
        for wanted in automations(dead_after_s):
            _put_automation(http, wanted, switch_on=switch_on)
        if http.get(f"/v2/concurrency_limits/{GPU}").status_code == httpx.codes.NOT_FOUND:
            limit = {"name": GPU, "limit": GPU_SHOWS}
            http.post("/v2/concurrency_limits/", json=limit).raise_for_status()


def _put_automation(http: httpx.Client, wanted: dict[str, Any], *, switch_on: bool) -> None:
    query = {"automations": {"name": {"any_": [wanted["name"]]}}}
    there: Sequence[dict[str, Any]] = (
        http.post("/automations/filter", json=query).raise_for_status().json()
    )
    if not there:
        http.post("/automations/", json=wanted).raise_for_status()
        return
    is_on = there[0]["enabled"] or switch_on
    if _essence(there[0]) != _essence(wanted):  # only then: an update loses its pending triggers
        changed = wanted | {"enabled": is_on}
        http.put(f"/automations/{there[0]['id']}", json=changed).raise_for_status()
    elif is_on != there[0]["enabled"]:
        http.patch(f"/automations/{there[0]['id']}", json={"enabled": is_on}).raise_for_status()


def _essence(automation: Mapping[str, Any]) -> tuple[object, ...]:
    trigger = automation["trigger"]
    events = (sorted(trigger.get(name) or []) for name in ("after", "expect", "for_each"))
    matched = (trigger.get(name) or {} for name in ("match", "match_related"))
    numbers = (float(trigger["within"]), int(trigger["threshold"]), str(trigger["posture"]))
    done = [
        [action.get(key) for key in ("type", "state", "name", "message")]
        for action in automation["actions"]
    ]
    return (*events, *matched, *numbers, done)


def was_cancelled(states: Sequence[State]) -> bool:
    """Return whether a run that an automation started again had been cancelled before.

    A busy server may lose the event of a run's end, and take its silence for a process that is
    gone. states: all of the run, in any order. A cancelled run that is retried by hand runs.
    """
    for state in sorted(states, key=lambda state: state.timestamp, reverse=True):
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            return True
        is_ours = state.name == "Late" or (state.message or "").endswith(_GOES_ON)
        if state.type == StateType.SCHEDULED and not is_ours:
            return False
    return False


def revive_crashed(
    api_url: str,
    headers: Mapping[str, str] | None = None,
    *,
    after_s: float = CRASHED_FOR_S,
) -> list[str]:
    """Reschedule shows that are Crashed before their planned end; return the runs' names.

    The automations do that at once; but a server that was killed, or whose database was busy, may
    have lost their events. after_s: runs Crashed for less long are left to the automations. A run
    that crashed MAX_CRASHES times stays Crashed.

    Raises httpx.HTTPError when the server does not answer or refuses.
    """
    now = datetime.now(UTC)
    since = (now - MAX_SHOW).isoformat()
    crashed = {
        "flow_runs": {
            "state": {"type": {"any_": ["CRASHED"]}},
            "expected_start_time": {"after_": since},
        },
        "flows": {"name": {"any_": [FLOW]}},
    }
    revived = []
    with connect(api_url, headers) as http:
        for run in http.post("/flow_runs/filter", json=crashed).raise_for_status().json():
            crashed_at = datetime.fromisoformat(run["state"]["timestamp"])
            if now - crashed_at < timedelta(seconds=after_s) or _is_over(run, now):
                continue
            path = f"/flow_runs/{run['id']}"
            states = http.get("/flow_run_states/", params={"flow_run_id": run["id"]})
            kinds = [state["type"] for state in states.raise_for_status().json()]
            if kinds.count("CRASHED") >= MAX_CRASHES:
                continue
            state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
            state["message"] = f"It had crashed: {_GOES_ON}"
            body = {"state": state, "force": True}
            http.post(f"{path}/set_state", json=body).raise_for_status()
            revived.append(str(run["name"]))
    return revived


def _is_over(run: Mapping[str, Any], now: datetime) -> bool:
    """Return whether a run's planned time has passed, or is unknown."""
    try:
        length = parse_duration(str(run["parameters"].get("duration", DEFAULT_DURATION)))
    except UsageError:
        return True
    return datetime.fromisoformat(run["expected_start_time"]) + length <= now


def reschedule_lost(
    api_url: str, pools: Sequence[str], headers: Mapping[str, str] | None = None
) -> None:
    """Put runs back on schedule that a worker had taken and not begun when it was killed.

    pools: those whose workers are about to start. Raises httpx.HTTPError.
    """
    lost = {
        "flow_runs": {"state": {"type": {"any_": ["PENDING"]}}},
        "work_pools": {"name": {"any_": list(pools)}},
    }
    with connect(api_url, headers) as http:
        for run in http.post("/flow_runs/filter", json=lost).raise_for_status().json():
            state = {"type": "SCHEDULED", "message": "Its worker was gone before it began."}
            body = {"state": state, "force": True}
            http.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
