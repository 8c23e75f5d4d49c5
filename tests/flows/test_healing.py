"""What is put on a Prefect server so that shows heal, and what is looked at before it starts."""

import pytest

from flows.errors import StackError
from flows.healing import ALIVE, OVER, automations
from flows.stack import prefect_database


def test_only_events_with_the_servers_own_clock_are_looked_at() -> None:
    """Prefect's heartbeats carry the worker's: with that wrong, a show would seem dead."""
    silent, _ = automations(120)
    looked_at = {*silent["trigger"]["after"], *silent["trigger"]["expect"]}
    assert {ALIVE, OVER} < looked_at
    assert not any("heartbeat" in event or "*" in event for event in looked_at)


def test_silence_is_what_was_set() -> None:
    silent, _ = automations(45)
    assert silent["trigger"]["within"] == 45


def test_cancelled_or_completed_show_is_not_brought_back() -> None:
    silent, crashed = automations(120)
    ends = set(silent["trigger"]["expect"])
    assert {f"prefect.flow-run.{name}" for name in ("Cancelling", "Cancelled", "Completed")} < ends
    assert crashed["trigger"]["expect"] == ["prefect.flow-run.Crashed"]


def test_database_that_prefect_cannot_use_is_one_clear_line(empty_database_url: str) -> None:
    with pytest.raises(StackError, match="pg_trgm") as raised:
        prefect_database(empty_database_url)
    assert "\n" not in str(raised.value)
