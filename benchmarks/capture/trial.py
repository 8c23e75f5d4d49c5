"""One fault, one contender: what was lost of the show, and how soon new content came again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.capture.contenders import Contender
from benchmarks.origin.audit import Account, Audit
from benchmarks.origin.scenarios import Scenario
from flows.demo.channel import LiveOrigin

_POLL_S: Final = 0.03
_WARM: Final = 3
"""The fault begins once so many of the show's segments are recorded."""

_MARGIN: Final = 4
"""What was published this many segments before the end of a trial has to be recorded."""

_PATIENCE_S: Final = 60.0


class NothingRecorded(Exception):
    """Nothing was recorded though nothing was wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial went.

    recovered_s: from the end of the fault until something was recorded that was published after
    it; None if that never was. over: the contender had ended by itself.
    """

    account: Account
    recovered_s: float | None
    over: bool


class _Newest:
    """Which of the show's segments was recorded last."""

    def __init__(self, audit: Audit, files: Callable[[], Iterable[Path]]) -> None:
        self._audit, self._files = audit, files
        self._sizes: dict[Path, int] = {}
        self.seen: set[int] = set()

    def look(self) -> int:
        """Read what has grown; return the newest segment of which there is something, or -1."""
        for path in self._files():
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            if size and self._sizes.get(path) != size:
                self._sizes[path] = size
                self.seen.update(self._audit.segments_in(path))
        return max(self.seen, default=-1)


def run_trial(
    contender: Contender,
    origin: LiveOrigin,
    scenario: Scenario,
    *,
    scale: float = 1.0,
    wait_s: float = 20.0,
    settle: int = 4,
    strict: bool = True,
) -> Outcome:
    """Let it record, do wrong, put it right, and account for what was recorded.

    scale: how long the fault lasts, as a share of its full length. wait_s: for so long after the
    fault, at most, something new is waited for, and then for `settle` segments more. strict: what
    comes late, at the end, is lost.
    Raises NothingRecorded.
    """
    newest = _Newest(Audit(origin), contender.files)

    def watch(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until():
                return True
            time.sleep(_POLL_S)  # the show goes on, and knows no other time
        return False

    contender.start()
    recovered_s = None
    try:
        if not watch(_PATIENCE_S, lambda: newest.look() >= 0 and len(newest.seen) >= _WARM):
            raise NothingRecorded(type(contender).__name__)
        scenario.begin(origin)
        watch(scenario.lasts_s * scale)
        if scenario.final:
            watch(_PATIENCE_S, lambda: contender.over)
        else:
            scenario.end(origin)
            healed, index = time.monotonic(), origin.published
            if watch(wait_s, lambda: newest.look() >= index):
                recovered_s = time.monotonic() - healed
                watch(settle * origin.segment_s)
        end = origin.published - (0 if scenario.final else _MARGIN) if strict else None
        over = contender.over
    finally:
        contender.stop()
        origin.heal()
    account = contender.account(Audit(origin), end=end)
    return Outcome(account=account, recovered_s=recovered_s, over=over)
