"""Work pools that start runs by our command, and ignore a run's own command and environment.

Prefect's template lets a run choose its command, environment and folder. Ours has no variables. It
has no `env` either: if a template's is a mapping, Prefect adds a run's variables to it (3.8.8,
`workers/base.py`, from_template_and_values).

Without a command, Prefect's workers start a process that finds the flow, which starts another that
runs it: Prefect is imported twice, and the environment, passwords included, is written to a file.
Our command starts the second process directly.
"""

import shlex
import sys
from collections.abc import Iterable
from typing import Any, Final

import httpx

PROCESS: Final = "process"


def put_pools(http: httpx.Client, ours: Iterable[str]) -> None:
    """Create process pools that start runs by our command, and correct existing ones; idempotent.

    Only for a server whose workers are all on this machine: the command has our Python's path.
    Other process pools get a template without variables and command; their workers, on other
    machines, set the command.

    Raises httpx.HTTPError when the server does not answer or refuses.
    """
    wanted = {name: template(f"{shlex.quote(sys.executable)} -m flows.begin") for name in ours}
    for there in _pools(http):
        name = there["name"]
        if there["type"] != PROCESS:
            wanted.pop(name, None)
        elif there["base_job_template"] != (right := wanted.pop(name, template())):
            changed = {"base_job_template": right}
            http.patch(f"/work_pools/{name}", json=changed).raise_for_status()
    for name, right in wanted.items():
        make_pool(http, name, right)


def make_pool(
    http: httpx.Client, name: str, base_job_template: dict[str, Any] | None = None
) -> None:
    """Create a process pool, by default with the template for other machines."""
    made = {"name": name, "type": PROCESS, "base_job_template": base_job_template or template()}
    answer = http.post("/work_pools/", json=made)
    if answer.status_code != httpx.codes.CONFLICT:  # made meanwhile
        answer.raise_for_status()


def template(command: str | None = None) -> dict[str, Any]:
    """Return a job template without variables: a run that sets one is refused."""
    started = {"command": command} if command is not None else {}
    return {
        "job_configuration": {**started, "stream_output": True},
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
    }


def _pools(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = {"limit": 200, "offset": len(found)}
        answer = http.post("/work_pools/filter", json=page).raise_for_status().json()
        found += answer
        if len(answer) < 200:
            return found
