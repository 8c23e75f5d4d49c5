"""Client of the stack's Prefect server, over the API that the UI uses: deployments and runs.

Over HTTP and not with Prefect's client: importing that takes seconds, and it binds to whatever
server was configured when it was imported.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx

from flows.control.client.work_pool import make_pool, put_pools
from flows.errors import StackError, UsageError

PREFECT_YAML: Final = "prefect.yaml"
SHIPPED: Final = Path(__file__).resolve().parent.parent.parent / PREFECT_YAML
"""The file that the package brings: `adhoc`, the demo and the upkeep, with examples as comments."""

FINAL: Final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
"""The types of state that a run does not leave."""

BUSY: Final = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)


def prefect_file() -> Path:
    """Return the prefect.yaml of the current folder, else the one that the package brings."""
    here = Path.cwd() / PREFECT_YAML
    return here if here.is_file() else SHIPPED


def own_prefect_file() -> Path:
    """Return the prefect.yaml of the current folder; raises UsageError if there is none."""
    here = Path.cwd() / PREFECT_YAML
    if not here.is_file():
        raise UsageError(f"no {PREFECT_YAML} in {here.parent}: `showmood init` writes one")
    return here


def deploy(file: Path, env: Mapping[str, str]) -> None:
    """Have Prefect deploy a prefect.yaml to the server that `env` names, without prompts.

    Entrypoints are found beside the file, or else beside this package.

    Raises StackError with Prefect's own last words.
    """
    package = Path(__file__).resolve().parent.parent.parent
    beside = file.resolve().parent
    command = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file.resolve())]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *command],
        cwd=beside if (beside / package.name).is_dir() else package.parent,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = [line.strip(" │") for line in (done.stdout + done.stderr).splitlines()]
        said = [line for line in words if line and not line.startswith(("╭", "╰"))]
        raise StackError(f"{file} could not be deployed: {said[-1] if said else 'no output'}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRun:
    """A flow run as the server knows it."""

    id: str
    name: str
    state: str
    state_name: str
    message: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's answer."""
        state = answer["state"] or {"type": "", "name": "", "message": ""}
        return cls(
            id=answer["id"],
            name=answer["name"],
            state=state["type"],
            state_name=state["name"],
            message=state["message"] or "",
        )


class _Patient(httpx.HTTPTransport):
    """Asks again when the server is busy, as one on SQLite is now and then."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause_s in BUSY_PAUSES_S:
            answer = super().handle_request(request)
            if answer.status_code not in BUSY:
                return answer
            answer.close()
            time.sleep(pause_s)
        return super().handle_request(request)


def connect(url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return a client of the server's API, which is patient with it."""
    return httpx.Client(
        base_url=url, headers=headers, timeout=30, trust_env=False, transport=_Patient()
    )


class PrefectServer:
    """A Prefect server's API; use it as a context manager.

    Its methods raise httpx.HTTPError when the server does not answer or says no.
    """

    def __init__(self, api_url: str, headers: Mapping[str, str] | None = None) -> None:
        """Connect to nothing yet. headers: by which the server knows us."""
        self._http = connect(api_url, headers)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def is_up(self) -> bool:
        """Return whether it answers."""
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False

    def has_worker(self, pool: str, name: str) -> bool:
        """Return whether a worker of this name serves the work pool."""
        return name in self.workers(pool)

    def workers(self, pool: str) -> list[str]:
        """Return the names of the workers that serve the work pool; none where there is no such."""
        asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
        answer = self._http.post(f"/work_pools/{pool}/workers/filter", json=asked)
        return [worker["name"] for worker in answer.json()] if answer.is_success else []

    def put_pools(self, ours: Sequence[str]) -> None:
        """Have the work pools of this machine's workers, and put all right, as `work_pool` says."""
        put_pools(self._http, ours)

    def make_pool(self, name: str) -> None:
        """Make a work pool for workers on any machine, unless there is one of this name."""
        if not self._http.get(f"/work_pools/{name}").is_success:
            make_pool(self._http, name)

    def make_queue(self, pool: str, name: str) -> None:
        """Make a queue of a work pool, unless there is one of this name."""
        answer = self._http.post(f"/work_pools/{pool}/queues", json={"name": name})
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def set_parameters(self, deployment: str, parameters: Mapping[str, Any]) -> None:
        """Change some parameters of `flow/deployment`; nothing is done where there is none."""
        answer = self._http.get(f"/deployments/name/{deployment}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        found = answer.raise_for_status().json()
        changed = {"parameters": found["parameters"] | dict(parameters)}
        self._http.patch(f"/deployments/{found['id']}", json=changed).raise_for_status()

    def start_run(self, deployment: str, parameters: Mapping[str, Any]) -> FlowRun:
        """Create a run of `flow/deployment` as the UI's Custom run does; a worker picks it up."""
        found = self._http.get(f"/deployments/name/{deployment}").raise_for_status().json()
        answer = self._http.post(
            f"/deployments/{found['id']}/create_flow_run", json={"parameters": dict(parameters)}
        )
        return FlowRun.of(answer.raise_for_status().json())

    def read_run(self, run_id: str) -> FlowRun:
        """Return a run as it is now."""
        return FlowRun.of(self._http.get(f"/flow_runs/{run_id}").raise_for_status().json())

    def cancel_runs(
        self,
        pools: Sequence[str],
        stopping: threading.Event,
        *,
        timeout_s: float,
        among: Collection[str] | None = None,
    ) -> None:
        """Cancel running and pending runs of these pools, and wait until they have ended.

        among: the ids of those that may be cancelled; without, all. timeout_s: the longest wait. A
        worker that is stopped cuts its flows off; cancelled, they store what they have.
        """
        end = time.monotonic() + timeout_s
        asked = {"RUNNING": "CANCELLING", "PENDING": "CANCELLED"}
        for run in self._active(pools, among):
            if (state := asked.get(run.state)) is None:
                continue
            answer = self._http.post(
                f"/flow_runs/{run.id}/set_state", json={"state": {"type": state}}
            )
            answer.raise_for_status()
        while self._active(pools, among) and time.monotonic() < end:
            stopping.wait(0.25)

    def _active(self, pools: Sequence[str], among: Collection[str] | None) -> list[FlowRun]:
        asked = {
            "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
            "work_pools": {"name": {"any_": list(pools)}},
        }
        answer = self._http.post("/flow_runs/filter", json=asked)
        found = [FlowRun.of(run) for run in answer.raise_for_status().json()]
        return [run for run in found if among is None or run.id in among]
