"""Output of `showmood replay`."""

import pytest

from flows.commands.replay import print_outcome
from flows.control.client.wide_replay import Outcome


def test_messages_of_failed_runs_are_not_interpreted_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "late-night: Failed, [/x] of [bold]decoding[/bold]"
    print_outcome("late-night", Outcome(done=1, failed=(line,)))
    assert capsys.readouterr().err == f"{line}\nlate-night: 1 of 2 runs are done\n"
