"""The automations that ship, switched off: reactions to a show's events.

They are found by name, so that a user's changes to one, switching it on included, are kept.
"""

from collections.abc import Iterator
from typing import Any, Final

import httpx

from flows.control.events import BEHIND, GAP, MISSED, RAISED
from flows.errors import UsageError

CLIP_AFTER_S: Final = 20
"""Seconds to wait until the time after the alert is recorded, too."""

MIN_INTERVAL_S: Final = 60
"""Least seconds between two triggers of an automation by one channel: alerts may be frequent."""

CLIP: Final = ("clip-moment", "moment")
"""Flow and deployment that cut a clip out of a recording."""


def shipped(block_id: str | None, clip_id: str | None) -> list[dict[str, Any]]:
    """Return the automations for Prefect's API; without those whose block or deployment is None."""
    found: list[dict[str, Any]] = []
    if clip_id is not None:
        cut = {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": clip_id,
            "schedule_after": CLIP_AFTER_S,
            "parameters": {
                "channel": _filled("{{ event.resource['showmood.channel'] }}"),
                "start": _filled("{{ event.payload['clip_from'] }}"),
                "end": _filled("{{ event.payload['clip_to'] }}"),
            },
        }
        found.append(
            _automation("clip the moment", "Cut out what raised an emotion alert.", [RAISED], cut)
        )
    if block_id is not None:
        for name, what, events, body in (
            ("tell of an alert", "an emotion alert", [RAISED], "{{ event.payload['said'] }}"),
            ("tell of a missed show", "a show never live", [MISSED], "{{ event.payload['why'] }}"),
            (
                "tell of gaps and falling behind",
                "a long gap, or analysis behind the air",
                [GAP, BEHIND],
                "{{ event.payload['why'] or event.payload['behind_s'] ~ ' s behind' }}",
            ),
        ):
            notify = {
                "type": "send-notification",
                "block_document_id": block_id,
                "subject": "{{ event.resource['showmood.channel'] }}: " + what,
                "body": body + "\n{{ flow_run|ui_url }}",
            }
            found.append(_automation(name, f"Send a notification: {what}.", events, notify))
    return found


def apply(http: httpx.Client, *, notify_block: str | None) -> Iterator[str]:
    """Make the missing ones, switched off; yield a line for each.

    Raises UsageError when there is no such block, httpx.HTTPError.
    """
    block_id = _block_id(http, notify_block) if notify_block else None
    clip = http.get(f"/deployments/name/{'/'.join(CLIP)}")
    clip_id = str(clip.json()["id"]) if clip.is_success else None
    for wanted in shipped(block_id, clip_id):
        query = {"automations": {"name": {"any_": [wanted["name"]]}}}
        if not http.post("/automations/filter", json=query).raise_for_status().json():
            http.post("/automations/", json=wanted).raise_for_status()
            yield f"automation {wanted['name']!r} is there, switched off"


def _automation(
    name: str, description: str, events: list[str], action: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": f"showmood: {name}",
        "description": description,
        "enabled": False,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "match": {"prefect.resource.id": "showmood.show.*"},
            "expect": events,
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": MIN_INTERVAL_S,
        },
        "actions": [action],
    }


def _filled(template: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": template}


def _block_id(http: httpx.Client, block: str) -> str:
    kind, _, name = block.partition("/")
    found = http.get(f"/block_types/slug/{kind}/block_documents/name/{name}")
    if found.is_success:
        return str(found.json()["id"])
    raise UsageError(
        f"SHOWMOOD_NOTIFY_BLOCK: there is no block {block!r} on the server; make it in the UI "
        "under Blocks, and write its type and name as slack-webhook/newsroom"
    )
