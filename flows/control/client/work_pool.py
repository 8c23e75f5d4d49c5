"""Work pools whose runs start by our command, and with nothing that a run brings.

Prefect's own template lets whoever starts a run choose its command, environment and folder. Ours
has no variables. It has no `env` either: where a template has one that is a mapping, Prefect adds a
run's to it, variable or not (3.8.8, `workers/base.py`, from_template_and_values).

Without a command of their own, Prefect's workers start a process that looks for the flow, and that
one another that runs it; each imports Prefect, one after the other, and the whole environment is
written to a file meanwhile, passwords included. Ours starts the second alone.
"""

import shlex
import sys
from collections.abc import Iterable
from typing import Any, Final

import httpx

PROCESS: Final = "process"


def put_pools(http: httpx.Client, ours: Iterable[str]) -> None:
    """Make process pools whose runs start by our command, and correct those that exist.

    For a server that this machine's workers alone can reach: the command names our own Python.
    Idempotent. Other process pools get a template that takes nothing from a run, too; their
    workers, on other machines, know which Python is theirs.

    Raises httpx.HTTPError when the server does not answer or says no.
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
    """Make a process pool, by the template for other machines where none is given."""
    made = {"name": name, "type": PROCESS, "base_job_template": base_job_template or template()}
    answer = http.post("/work_pools/", json=made)
    if answer.status_code != httpx.codes.CONFLICT:  # made meanwhile
        answer.raise_for_status()


def template(command: str | None = None) -> dict[str, Any]:
    """Return a job's template without variables: a run that brings one is refused."""
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
