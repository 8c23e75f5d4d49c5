"""Forwards work to the machine that has the recorded files, by starting a run there."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import httpx
from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings
from sqlalchemy import Engine

from flows.control.client.machine_queue import FORWARDED_PREFIX, forwarded_tag, run_on
from flows.errors import StackError
from flows.objects.configured import copies_of
from flows.recordings.finding import find
from flows.settings import Settings
from flows.shows.applying import credentials


def machines_with_files(
    engine: Engine, settings: Settings, channel: str, begin: datetime, end: datetime
) -> tuple[tuple[str, ...], bool]:
    """Return the other machines that have files of [begin, end), and whether this one has any."""
    found = find(
        engine,
        channel,
        begin,
        end,
        recordings_dir=settings.recordings_dir,
        machine=settings.machine_name,
        copies=copies_of(settings),
    )
    return found.on, bool(found.segments)


def was_forwarded() -> bool:
    """Return whether another run has forwarded this one.

    Such a run forwards nothing: two machines with a part each would start runs without end.
    """
    return any(tag.startswith(FORWARDED_PREFIX) for tag in flow_run.tags or ())


def forward_run(machines: Iterable[str], changed: Mapping[str, Any], *, key: str = "") -> list[str]:
    """Start a run like this one on each of these machines; return one line of text a machine.

    changed: parameters that differ, such as a relative time made absolute. key: idempotency key,
    by default this run's id. Raises StackError.
    """
    url, own = get_current_settings().api.url, deployment.id
    if url is None or own is None:
        raise StackError("the files are on another machine: start a run of the deployment")
    lines = []
    for machine in machines:
        try:
            run = run_on(
                machine,
                deployment=own,
                parameters={**(flow_run.parameters or {}), **changed},
                api_url=url,
                headers=credentials(os.environ),
                key=f"{key or flow_run.id} on {machine}",
                tags=[forwarded_tag(flow_run.id)],
            )
        except httpx.HTTPError as e:
            raise StackError(f"a run for {machine} could not be started: {e!r}") from e
        lines.append(f"{machine} does it, as run {run['name']}")
    return lines
