"""Reserves the channel names of scheduled shows, unless SHOWMOOD_ADHOC_NAMES is `any`.

A run that a person starts with the name of a scheduled show would hold that channel when the show
is on air, and write into its history.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from flows.show import slug_of

APART: Final = "adhoc-"
"""Prefix of the channel name of a run that would have a scheduled show's name."""

_PAGE: Final = 200
_MAX_NAME_CHARS: Final = 63


class Slotted(Protocol):
    """A slot of a schedule."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Its runs' parameters besides the deployment's."""


class Deployed(Protocol):
    """A deployment, as far as it is used here."""

    @property
    def id(self) -> UUID:
        """Its id."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters of its runs."""

    @property
    def schedules(self) -> Iterable[Slotted]:
        """Its slots, paused ones included."""


def deployed(client: SyncPrefectClient) -> Iterator[Deployed]:
    """Yield the server's deployments of shows."""
    shows = FlowFilter(name=FlowFilterName(any_=["watch-show"]))
    offset = 0
    while page := client.read_deployments(flow_filter=shows, limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)
        if len(page) < _PAGE:
            return


def name_of_run(
    slug: str, url: str, deployment: UUID | None, others: Iterable[Deployed]
) -> tuple[str, bool]:
    """Return the channel name for a run of this deployment, and whether the run is scheduled.

    slug, url: of the run. A run counts as scheduled if its deployment has slots with this name and
    URL. Others get a name that no slot has.
    """
    owners: dict[str, set[tuple[UUID, str]]] = {}
    for each in others:
        for slot in each.schedules:
            values = {**each.parameters, **slot.parameters}
            address = str(values.get("url") or "")
            name = str(values.get("name") or slug_of(address))
            owners.setdefault(name, set()).add((each.id, address))
    if (deployment, url) in owners.get(slug, set()):
        return slug, True
    if slug in owners:
        slug = f"{APART}{slug}"[:_MAX_NAME_CHARS].rstrip("-")
    if slug in owners:
        slug = f"{APART}{sha256(slug.encode()).hexdigest()[:16]}"
    return slug, False
