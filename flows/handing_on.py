"""What a run cannot do here, for want of files, is done where they are: by another run, there."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import httpx
from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings
from sqlalchemy import Engine

from flows.control.client.machine_queue import HANDED_ON, handed_on_by, run_on
from flows.errors import StackError
from flows.objects.opening import copies_of
from flows.recordings.finding import find
from flows.settings import Settings
from flows.shows.applying import credentials


def machines_with(
    engine: Engine, settings: Settings, channel: str, begin: datetime, end: datetime
) -> tuple[tuple[str, ...], bool]:
    """Return which other machines have files of a stretch, and whether there are any here."""
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


def was_handed_on() -> bool:
    """Tell whether this run was started by another for the files that are here.

    It hands on nothing itself: two machines with a part each would start runs for ever.
    """
    return any(tag.startswith(HANDED_ON) for tag in flow_run.tags or ())


def hand_on(machines: Iterable[str], changed: Mapping[str, Any], *, key: str = "") -> list[str]:
    """Start a run like this one on each of these machines; return a line on each.

    changed: parameters that differ, as a time that was said as how long ago. key: what tells the
    runs from those of before, where one a machine is enough. Raises StackError.
    """
    url, own = get_current_settings().api.url, deployment.id
    if url is None or own is None:
        raise StackError("the files are on another machine: start a run of the deployment")
    said = []
    for machine in machines:
        try:
            run = run_on(
                machine,
                deployment=own,
                parameters={**(flow_run.parameters or {}), **changed},
                api_url=url,
                headers=credentials(os.environ),
                key=f"{key or flow_run.id} on {machine}",
                tags=[handed_on_by(flow_run.id)],
            )
        except httpx.HTTPError as e:
            raise StackError(f"a run for {machine} could not be started: {e!r}") from e
        said.append(f"{machine} does it, as run {run['name']}")
    return said
