"""One fault with one contender: losses, and time to recover."""

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
"""Number of recorded segments before the fault starts."""

_MARGIN: Final = 4
"""Segments published this many before the end of a trial must be recorded."""

_PATIENCE_S: Final = 60.0


class NothingRecorded(Exception):
    """Nothing was recorded before the fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of a trial.

    recovered_s: from the end of the fault to the first recorded segment published after
    it; None if there was none. over: the contender had exited.
    """

    account: Account
    recovered_s: float | None
    over: bool


class _Newest:
    """Finds the last recorded segment of the show."""

    def __init__(self, audit: Audit, files: Callable[[], Iterable[Path]]) -> None:
        self._audit, self._files = audit, files
        self._sizes: dict[Path, int] = {}
        self.seen: set[int] = set()

    def look(self) -> int:
        """Read the new data; return the newest segment with any frames, or -1."""
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
    """Start recording, inject the fault, end it, and audit the recording.

    scale: length of the fault, relative to its full length. wait_s: maximum time to wait after the
    fault for a new segment, and then for `settle` segments more. strict: late segments at the end
    count as lost.
    Raises NothingRecorded.
    """
    newest = _Newest(Audit(origin), contender.files)

    def watch(seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until():
                return True
            time.sleep(_POLL_S)  # the show continues, in real time
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
