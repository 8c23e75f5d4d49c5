"""The runs of a recording: their names, their files, and their clocks.

A run's state, NNNN-DATE.json, is written when it begins. If it is lost, its files are still found
by their names, and dated by this machine's clock.
"""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from flows.capture.recorded.clock import Clock, ClockState
from flows.capture.state import read_state, write_whole

_log = logging.getLogger(__name__)

PIECE: Final = re.compile(r"(?P<run>\d{4,}-\d{8}T\d{6}Z)-\d{6,}\.(ts|mp4)")
"""The name of a recorded file."""

_STATE: Final = re.compile(r"(?P<run>\d{4,}-\d{8}T\d{6}Z)\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class _RunState:
    clock: ClockState
    verbatim: bool = False


_RUN_STATE: Final = TypeAdapter(_RunState)


def new_run(directory: Path, now: datetime, *, verbatim: bool) -> str:
    """Begin a run and return its name; names sort in the order of the runs."""
    number = max((int(run.partition("-")[0]) for run in runs_in(directory)), default=0) + 1
    run = f"{number:04d}-{now:%Y%m%dT%H%M%SZ}"
    save_clock(directory, run, Clock(), verbatim=verbatim)
    return run


def runs_in(directory: Path) -> list[str]:
    """Return the names of the runs with any file, in order."""
    found = (_STATE.fullmatch(p.name) or PIECE.fullmatch(p.name) for p in directory.iterdir())
    return sorted({name["run"] for name in found if name})


def run_of(path: Path) -> str:
    """Return the run of a recorded file; empty for other files."""
    found = PIECE.fullmatch(path.name)
    return found["run"] if found else ""


def save_clock(directory: Path, run: str, clock: Clock, *, verbatim: bool = False) -> None:
    """Save a run's clock; raises OSError."""
    state = _RunState(clock=clock.state(), verbatim=verbatim)
    write_whole(directory / f"{run}.json", _RUN_STATE.dump_json(state).decode())


def load_clock(directory: Path, run: str) -> tuple[Clock, bool]:
    """Return a run's clock, and whether its files are the source's own (verbatim).

    If the state can't be read the clock is not set, and dates are estimated.
    """
    state = read_state(directory / f"{run}.json", _RUN_STATE)
    if state is None:
        # Only runs of ffmpeg have a log.
        return Clock(), not (directory / f"{run}.log").exists()
    return Clock.from_state(state.clock), state.verbatim


def newest_clock(directory: Path) -> Clock | None:
    """Return the clock of the newest run that recorded anything; None if that is verbatim."""
    for run in reversed(runs_in(directory)):
        clock, verbatim = load_clock(directory, run)
        if clock.is_set or verbatim:
            return None if verbatim else clock
    return None
