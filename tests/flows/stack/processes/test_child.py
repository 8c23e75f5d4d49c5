"""A server of the stack that exits is restarted as soon as possible."""

import os
from pathlib import Path

import pytest

from flows.errors import StackError
from flows.stack.processes import child as module
from flows.stack.processes.child import Child


def until_ended(one: Child) -> None:
    one.process.wait(60)


def test_child_that_cannot_be_started_is_retried_and_reported_once(
    tmp_path: Path,
) -> None:
    """Its log cannot be written: the stack continues without it."""
    one = Child("page", ["/bin/sh", "-c", "exit 3"], dict(os.environ), tmp_path / "logs" / "page")
    until_ended(one)
    (tmp_path / "logs").rename(tmp_path / "away")
    said = one.tend() or ""
    assert "can't be started now" in said
    assert "its log can't be read" in said
    assert [one.tend() for _ in range(10)] == [None] * 10
    (tmp_path / "away").rename(tmp_path / "logs")
    assert (one.tend() or "").endswith("it was started again")
    until_ended(one)


def test_child_that_keeps_ending_is_given_up_with_its_last_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    (tmp_path / "log").write_text("x" * 3 * module._LAST_BYTES)
    command = ["/bin/sh", "-c", "echo; echo OSError: no port; exit 3"]
    one = Child("page", command, dict(os.environ), tmp_path / "log")
    until_ended(one)
    assert "OSError: no port" in (one.tend() or "")
    until_ended(one)
    with pytest.raises(StackError, match=r"OSError: no port.*restarted 1 times"):
        one.tend()
