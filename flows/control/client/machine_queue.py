"""A queue of the work pool for each machine: runs that need its disk go there.

A worker that asks for a queue that is not there gets nothing from any, so it is made first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flows.control.client.api import connect

DEFAULT_QUEUE: Final = "default"
FORWARDED_PREFIX: Final = "handed on by "


def forwarded_tag(run_id: str) -> str:
    """Return the tag of the runs that a run has started on other machines."""
    return f"{FORWARDED_PREFIX}{run_id}"


def queue_of(machine: str) -> str:
    """Return the queue that the workers of a machine serve, and no others."""
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
    """Start a run of a deployment, by its id, on a machine; return it as the API has it.

    machine: None for whichever has room. key: a run that was started with it before is returned in
    its place. tags: beside the deployment's own. Raises httpx.HTTPError.
    """
    wanted: dict[str, Any] = {"parameters": dict(parameters), "tags": list(tags)}
    if machine is not None:
        wanted["work_queue_name"] = queue_of(machine)
    if key is not None:
        wanted["idempotency_key"] = key
    with connect(api_url, headers) as http:
        answer = http.post(f"/deployments/{deployment}/create_flow_run", json=wanted)
        return dict(answer.raise_for_status().json())
