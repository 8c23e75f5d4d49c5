"""`showmood deploy`: puts a prefect.yaml on a Prefect server; idempotent, without prompts.

On top of `prefect deploy --all`: the file is checked first, work pools are made, slots that are no
longer in the file are removed, and slots made or paused in the UI stay as they are.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from flows.auth.access import FILE, Access, basic
from flows.control import automations
from flows.control.client.api import connect, deploy
from flows.control.client.work_pool import make_pool
from flows.errors import StackError
from flows.settings import Settings
from flows.shows.showfile import Deployment, by_module, read_showfile

TAG: Final = "showmood"
"""Tag of our deployments, by which those no longer in the file are found."""

BY_HAND: Final = "ui-"
"""Prefix of the slugs of slots made in the UI, which only the UI removes."""

ON_AIR: Final = "On air: "

VERSION: Final = version("showmood")
_OURS: Final = "showmood "
"""Prefix of the version of deployments that `apply_showfile` put on the server."""

Echo = Callable[[str], None]


def apply_showfile(
    file: Path,
    env: Mapping[str, str],
    *,
    prune: bool = False,
    notify_block: str | None = None,
    echo: Echo = lambda step: None,
) -> list[Deployment]:
    """Put a file on the server that `env` names, and return its deployments.

    prune: also delete our deployments that are not in the file. notify_block: the notification
    block, "type/name", for the shipped automations. echo: called with one line a change.

    Raises UsageError for a mistake in the file, StackError when the server refuses it.
    """
    wanted = read_showfile(file)
    with _connected(env) as http:
        for pool in sorted({each.pool for each in wanted}):
            if _make_pool(http, pool):
                echo(f"work pool {pool!r} was made")
        for there in _deployments(http):
            _name_slots_made_by_hand(http, there)
        deploy(file, env)
        for there in _deployments(http):
            each = next((each for each in wanted if _is(each, there)), None)
            if each is not None:
                _free_of_this_machine(http, there)
                _remove_slots(http, there, each, echo)
                _describe_slots(http, there, each)
            elif prune:
                http.delete(f"/deployments/{there['id']}").raise_for_status()
                echo(f"{there['name']} is not in {file.name}: removed")
            else:
                echo(f"{there['name']} is not in {file.name}, and stays: --prune removes it")
        for line in automations.apply(http, notify_block=notify_block):
            echo(line)
    return wanted


def paused_slots(env: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return the deployment and slug of each slot that the server has paused.

    Raises StackError when the server does not answer, or refuses us.
    """
    with _connected(env) as http:
        return {
            (there["name"], slot["slug"])
            for there in _deployments(http)
            for slot in there["schedules"]
            if there["paused"] or not slot["active"]
        }


@contextmanager
def _connected(env: Mapping[str, str]) -> Iterator[httpx.Client]:
    url = env["PREFECT_API_URL"]
    try:
        with connect(url, credentials(env)) as http:
            yield http
    except httpx.HTTPStatusError as e:
        hint = e.response.text[:200]
        if e.response.status_code in (401, 403):
            hint = "it needs a login; `showmood env` prints what a shell needs"
        raise StackError(
            f"the Prefect server at {url} answered {e.response.status_code}: {hint}"
        ) from e
    except httpx.HTTPError as e:
        raise StackError(
            f"the Prefect server at {url} does not answer ({e!r}): start `showmood up`, or set "
            "PREFECT_API_URL"
        ) from e


def credentials(env: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that authenticate us to Prefect Cloud or a server with a password."""
    if key := env.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if secret := env.get("PREFECT_API_AUTH_STRING"):
        return basic(secret)
    return {}


def server_environment(settings: Settings) -> dict[str, str]:
    """Return our environment; where it names no server, with the embedded one and its secret.

    Raises UsageError where the secret is damaged.
    """
    url = embedded_url(settings)
    if os.environ.get("PREFECT_API_URL", url) != url or not (settings.home / FILE).exists():
        return {"PREFECT_API_URL": url} | dict(os.environ)
    secret = Access.read(settings.home).auth_string
    return {"PREFECT_API_AUTH_STRING": secret} | dict(os.environ) | {"PREFECT_API_URL": url}


def embedded_ui(settings: Settings) -> str:
    """Return the URL of the embedded stack's server."""
    return f"http://127.0.0.1:{settings.ui_port}"


def embedded_url(settings: Settings) -> str:
    """Return the URL of its API."""
    return f"{embedded_ui(settings)}/api"


def _deployments(http: httpx.Client) -> list[dict[str, Any]]:
    """Return all our deployments on the server."""
    found: list[dict[str, Any]] = []
    while True:
        page = {"deployments": {"tags": {"all_": [TAG]}}, "limit": 200, "offset": len(found)}
        answer = http.post("/deployments/filter", json=page).raise_for_status().json()
        found += answer
        if len(answer) < 200:
            return found


def _is(each: Deployment, there: Mapping[str, Any]) -> bool:
    return (each.name, each.entrypoint) == (there["name"], by_module(there["entrypoint"] or ""))


def _free_of_this_machine(http: httpx.Client, there: Mapping[str, Any]) -> None:
    """Name a deployment's flow by module, without a path of this machine, and set our version."""
    right: dict[str, Any] = {
        "entrypoint": by_module(there["entrypoint"]),
        "version": f"{_OURS}{VERSION}",
    }
    if str(right["entrypoint"]).startswith("flows."):
        right |= {"path": None, "pull_steps": []}
    if any(there.get(name) != value for name, value in right.items()):
        http.patch(f"/deployments/{there['id']}", json=right).raise_for_status()


def version_of(version: str | None) -> str | None:
    """Return the Showmood version in a deployment's version; None if another tool deployed it."""
    return version.removeprefix(_OURS) if version and version.startswith(_OURS) else None


def _make_pool(http: httpx.Client, name: str) -> bool:
    if http.get(f"/work_pools/{name}").is_success:
        return False
    make_pool(http, name)
    return True


def _name_slots_made_by_hand(http: httpx.Client, there: Mapping[str, Any]) -> None:
    """Give a slug to slots without one: else Prefect's deploy replaces all slots."""
    for slot in there["schedules"]:
        if not slot["slug"]:
            named = {"slug": f"{BY_HAND}{slot['id'][:8]}", "parameters": slot["parameters"]}
            path = f"/deployments/{there['id']}/schedules/{slot['id']}"
            http.patch(path, json=named).raise_for_status()


def _describe_slots(http: httpx.Client, there: Mapping[str, Any], wanted: Deployment) -> None:
    """Put the show's times into its description: the UI's list shows neither days nor zone."""
    active = [each.slot.in_words for each in wanted.slots if each.slot.active]
    if not active:
        return
    # The flow's own description, without the times of an earlier deploy.
    own = (there["description"] or "").partition(ON_AIR)[0].rstrip()
    description = f"{own}\n\n{ON_AIR}{'; '.join(active)}".strip()
    if description != there["description"]:
        changed = {"description": description}
        http.patch(f"/deployments/{there['id']}", json=changed).raise_for_status()


def _remove_slots(
    http: httpx.Client, there: Mapping[str, Any], wanted: Deployment, echo: Echo
) -> None:
    slugs = {each.slot.slug for each in wanted.slots}
    for slot in there["schedules"]:
        slug = slot["slug"] or BY_HAND
        if slug not in slugs and not slug.startswith(BY_HAND):
            path = f"/deployments/{there['id']}/schedules/{slot['id']}"
            http.delete(path).raise_for_status()
            echo(f"{wanted.name}: slot {slug} is no longer in the file: removed")
