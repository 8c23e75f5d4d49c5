"""HTTP client of a Prefect server: deployments and runs.

Not Prefect's own client: importing it takes seconds, and it is bound to the server that was
configured at its import.
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
"""The packaged file: `adhoc`, the demo and maintenance, with examples as comments."""

FINAL: Final = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
"""Final types of a run's state."""

BUSY: Final = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)


def prefect_file() -> Path:
    """Return the prefect.yaml of the current folder, else the packaged one."""
    here = Path.cwd() / PREFECT_YAML
    return here if here.is_file() else SHIPPED


def own_prefect_file() -> Path:
    """Return the prefect.yaml of the current folder; raises UsageError if there is none."""
    here = Path.cwd() / PREFECT_YAML
    if not here.is_file():
        raise UsageError(f"no {PREFECT_YAML} in {here.parent}: `showmood init` writes one")
    return here


def deploy(file: Path, env: Mapping[str, str]) -> None:
    """Run `prefect deploy` for a prefect.yaml and the server that `env` names, without prompts.

    Entrypoints are searched beside the file, else beside this package.

    Raises StackError with the last line of Prefect's output.
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
        lines = [line for line in words if line and not line.startswith(("╭", "╰"))]
        raise StackError(f"{file} could not be deployed: {lines[-1] if lines else 'no output'}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRun:
    """A flow run, as the server returns it."""

    id: str
    name: str
    state: str
    state_name: str
    message: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Read the API's response."""
        state = answer["state"] or {"type": "", "name": "", "message": ""}
        return cls(
            id=answer["id"],
            name=answer["name"],
            state=state["type"],
            state_name=state["name"],
            message=state["message"] or "",
        )


class _RetryTransport(httpx.HTTPTransport):
    """Retries when the server is busy, as it sometimes is on SQLite."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause_s in BUSY_PAUSES_S:
            answer = super().handle_request(request)
            if answer.status_code not in BUSY:
                return answer
            answer.close()
            time.sleep(pause_s)
        return super().handle_request(request)


def connect(url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return an HTTP client of the server's API that retries when the server is busy."""
    return httpx.Client(
        base_url=url, headers=headers, timeout=30, trust_env=False, transport=_RetryTransport()
    )


class PrefectServer:
    """A Prefect server's API; use it as a context manager.

    Its methods raise httpx.HTTPError when the server does not answer or refuses.
    """

    def __init__(self, api_url: str, headers: Mapping[str, str] | None = None) -> None:
        """Connect to nothing yet. headers: credentials."""
        self._http = connect(api_url, headers)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def is_up(self) -> bool:
        """Return whether the server answers."""
        try:
            return self._http.get("/health").is_success
        except httpx.TransportError:
            return False

    def has_worker(self, pool: str, name: str) -> bool:
        """Return whether a worker of this name serves the work pool."""
        return name in self.workers(pool)

    def workers(self, pool: str) -> list[str]:
        """Return the names of the workers that serve the work pool; none where there is no such."""
        query = {"workers": {"status": {"any_": ["ONLINE"]}}}
        answer = self._http.post(f"/work_pools/{pool}/workers/filter", json=query)
        return [worker["name"] for worker in answer.json()] if answer.is_success else []

    def put_pools(self, ours: Sequence[str]) -> None:
        """Create or correct the work pools, see `work_pool.put_pools`."""
        put_pools(self._http, ours)

    def make_pool(self, name: str) -> None:
        """Create a work pool for workers on any machine, if there is none of this name."""
        if not self._http.get(f"/work_pools/{name}").is_success:
            make_pool(self._http, name)

    def make_queue(self, pool: str, name: str) -> None:
        """Create a queue of a work pool, if there is none of this name."""
        answer = self._http.post(f"/work_pools/{pool}/queues", json={"name": name})
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def set_parameters(self, deployment: str, parameters: Mapping[str, Any]) -> None:
        """Change some parameters of `flow/deployment`, if it exists."""
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
        """Return a run's current state."""
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

        among: ids of the runs that may be cancelled; None: all. timeout_s: the longest wait. A
        worker that stops kills its flows; cancelled before, they store what they have.
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
