"""The embedded stack's work pools: made before their workers, with the command that starts a run.

Without a command of their own, Prefect's workers start a process that looks for the flow, and that
one another that runs it; each imports Prefect, one after the other. Ours starts the second alone.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import httpx

from flows.errors import StackError

OURS: Final = "-m flows.begin"


def put_pool(http: httpx.Client, name: str, env: Mapping[str, str]) -> None:
    """Have a process pool on the server whose runs start by our command; again is harmless.

    For a server that this machine's workers alone can reach: the command names our own Python. A
    command that somebody has set stays.

    Raises httpx.HTTPError when the server does not answer or says no, StackError when Prefect does
    not say what a pool is made of.
    """
    there = http.get(f"/work_pools/{name}")
    if there.status_code == httpx.codes.NOT_FOUND:
        made = {"name": name, "type": "process", "base_job_template": _commanded(_template(env))}
        http.post("/work_pools/", json=made).raise_for_status()
        return
    pool = there.raise_for_status().json()
    template = pool["base_job_template"]
    wanted = _commanded(template)
    if pool["type"] == "process" and wanted != template:
        changed = {"base_job_template": wanted}
        http.patch(f"/work_pools/{name}", json=changed).raise_for_status()


def _commanded(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a job's template with our command, unless it has somebody else's."""
    wanted: dict[str, Any] = json.loads(json.dumps(template))
    command = wanted.get("variables", {}).get("properties", {}).get("command")
    if command is not None and OURS in (command.get("default") or OURS):
        command["default"] = f"{shlex.quote(sys.executable)} {OURS}"
    return wanted


def _template(env: Mapping[str, str]) -> dict[str, Any]:
    """Ask Prefect, in a process of its own: importing it takes seconds, and binds to a server."""
    asked = ["work-pool", "get-default-base-job-template", "--type", "process"]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *asked],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        template: dict[str, Any] = json.loads(done.stdout)
    except ValueError as e:
        words = (done.stdout + done.stderr).split("\n")
        said = [line for line in words if line.strip()] or ["no output"]
        raise StackError(f"the work pool could not be made: {said[-1]}") from e
    return template
