"""What is put on a Prefect server so that shows heal, and what is looked at before it starts."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import State

from flows.environment import prefect_database
from flows.errors import StackError
from flows.healing import ALIVE, OVER, automations, was_cancelled


def test_only_events_with_the_servers_own_clock_are_looked_at() -> None:
    """Prefect's heartbeats carry the worker's: with that wrong, a show would seem dead."""
    silent, *_ = automations(120)
    looked_at = {*silent["trigger"]["after"], *silent["trigger"]["expect"]}
    assert {ALIVE, OVER} < looked_at
    assert not any("heartbeat" in event or "*" in event for event in looked_at)


def test_silence_is_what_was_set() -> None:
    silent, *_ = automations(45)
    assert silent["trigger"]["within"] == 45


def test_cancelled_or_completed_show_is_not_brought_back() -> None:
    silent, gone, crashed = automations(120)
    ends = set(silent["trigger"]["expect"])
    assert {f"prefect.flow-run.{name}" for name in ("Cancelling", "Cancelled", "Completed")} < ends
    assert gone["trigger"]["expect"] == ["prefect.worker.executed-flow-run"]
    assert crashed["trigger"]["expect"] == ["prefect.flow-run.Crashed"]


def test_database_that_prefect_cannot_use_is_one_clear_line(empty_database_url: str) -> None:
    with pytest.raises(StackError, match="pg_trgm") as raised:
        prefect_database(empty_database_url)
    assert "\n" not in str(raised.value)


def states(*names: str) -> list[State]:
    """Return a run's states, newest first; "silent" is what the automation makes."""
    silent = automations(40)[0]["actions"][0]
    types = {"AwaitingRetry": "SCHEDULED", "Late": "SCHEDULED"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        State(type=silent["state"], name=silent["name"], message=silent["message"], timestamp=when)
        if name == "silent"
        else State(type=types.get(name, name.upper()), name=name, timestamp=when)
        for i, name in enumerate(names)
        for when in [at + timedelta(seconds=i)]
    ]
    return made[::-1]


@pytest.mark.parametrize(
    ("had", "expected"),
    [
        ("Scheduled Pending Running", False),
        ("Scheduled Pending Running silent Pending Running", False),
        ("Scheduled Late Pending Running silent Late Pending Running", False),
        ("Scheduled Running Cancelling Cancelled silent Pending Running", True),
        ("Scheduled Running Cancelled Running silent Late Pending Running", True),
        ("Scheduled Running silent Running Cancelling silent Running", True),
        ("Scheduled Running Cancelled AwaitingRetry Pending Running", False),
        ("Scheduled Running Cancelled AwaitingRetry Running silent Running", False),
    ],
)
def test_cancelled_run_is_known_unless_somebody_asked_for_it_again(
    had: str, expected: bool
) -> None:
    assert was_cancelled(states(*had.split())) is expected
