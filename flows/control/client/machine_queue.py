"""A queue of the work pool for each machine, for runs that need its disk.

A worker that polls a missing queue gets nothing from any queue, so it must be made first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flows.control.client.api import connect

DEFAULT_QUEUE: Final = "default"
FORWARDED_PREFIX: Final = "handed on by "


def forwarded_tag(run_id: str) -> str:
    """Return the tag of the runs that this run has started on other machines."""
    return f"{FORWARDED_PREFIX}{run_id}"


def queue_of(machine: str) -> str:
    """Return the queue that only this machine's workers serve."""
    return f"on-{machine}"


def run_on(
    machine: str | None,
    *,
    deployment: str,
    parameters: Mapping[str, Any],
    api_url: str,
    headers: Mapping[str, str],
    key: str | None = None,
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """Start a run of a deployment, by its id, on a machine; return the API's run.

    machine: None for any. key: idempotency key: a run started with it before is returned instead.
    tags: added to the deployment's. Raises httpx.HTTPError.
    """
    wanted: dict[str, Any] = {"parameters": dict(parameters), "tags": list(tags)}
    if machine is not None:
        wanted["work_queue_name"] = queue_of(machine)
    if key is not None:
        wanted["idempotency_key"] = key
    with connect(api_url, headers) as http:
        answer = http.post(f"/deployments/{deployment}/create_flow_run", json=wanted)
        return dict(answer.raise_for_status().json())
