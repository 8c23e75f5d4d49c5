"""Which show owns a channel's name: one with a schedule, unless the operator says otherwise.

A person who starts a run names its channel. With the name of a scheduled show it would hold that
channel when it is on, and write into its history.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from flows.show import slug_of

APART: Final = "adhoc-"
"""The name of a run begins so that would have a scheduled show's."""

_PAGE: Final = 200
_MAX_NAME_CHARS: Final = 63


class Slotted(Protocol):
    """A slot of a schedule: what its runs have besides the deployment's parameters."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of its own."""


class Deployed(Protocol):
    """A deployment, as far as it is asked for here."""

    @property
    def id(self) -> UUID:
        """Its id."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of each of its runs."""

    @property
    def schedules(self) -> Iterable[Slotted]:
        """Its slots, paused ones too."""


def deployed(client: SyncPrefectClient) -> Iterator[Deployed]:
    """Yield the deployments of shows that the server has."""
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
    """Return the channel's name for a run of this deployment, and whether it is the schedule's.

    slug, url: as the run has them. A run is the schedule's if its deployment has slots of this name
    and URL. Any other has a name that no slot has.
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
