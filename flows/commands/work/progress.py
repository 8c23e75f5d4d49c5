"""Progress of long work: a bar or a live line in a terminal, else a log line every few seconds.

All of it goes to stderr, as stdout may be a file of rows.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from sqlalchemy import Engine

from emotion.types import EMOTIONS, Observations
from flows.capture.segment import Gap, Segment
from flows.live.rows.observers import Observer

if TYPE_CHECKING:
    from flows.live.rows.analysis import Counts

LOG_EVERY_S: Final = 10.0
"""Seconds between two lines without a terminal."""

OnProgress = Callable[[float], None]


@contextmanager
def progress_of(
    what: str, total_s: float, *, quiet: bool = False, done: str = "analysed"
) -> Iterator[OnProgress]:
    """Yield a function to call with the number of seconds done.

    total_s: the total, 0 if unknown. done: the verb in the text.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda done_s: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
        )
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task(what, total=total_s or None)
            yield lambda done_s: bar.update(task, completed=done_s)
    else:
        yield _Lines(what, total_s, done)


class _Lines:
    """Logs the progress every ten seconds."""

    def __init__(self, what: str, total_s: float, done: str) -> None:
        self._what, self._total_s, self._done = what, total_s, done
        self._began = self._logged_at = time.monotonic()
        self._log = logging.getLogger("showmood")

    def __call__(self, done_s: float) -> None:
        now = time.monotonic()
        if now - self._logged_at < LOG_EVERY_S or done_s <= 0:
            return
        self._logged_at = now
        left = ""
        if self._total_s > done_s:
            left_s = (now - self._began) * (self._total_s - done_s) / done_s
            left = f" of {_clock(self._total_s)}, {_clock(left_s)} left"
        self._log.info("%s: %s %s%s", self._what, _clock(done_s), self._done, left)


class WatchLine(Observer):
    """Shows the state of a watch: segments, faces, newest emotion, lag, gaps."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Show nothing yet."""
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._log = logging.getLogger("showmood")
        self._logged_at = time.monotonic()
        self._counts: Counts | None = None
        self._emotion: str | None = None
        self._state = "looking for the stream"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the line while the context lasts; log lines appear above it."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
        streams = [handler.stream for handler in handlers]
        with Live(self, console=self._console, refresh_per_second=2, transient=True):
            for handler in handlers:
                handler.setStream(sys.stderr)  # Live's replacement, which prints above the line
            try:
                yield
            finally:
                for handler, stream in zip(handlers, streams, strict=True):
                    handler.setStream(stream)

    def __rich__(self) -> Text:
        """Return the line as it is now."""
        return Text(self.line())

    def line(self) -> str:
        """Return the line as it is now."""
        counts = self._counts
        if counts is None:
            return f"{self._state} ..."
        line = f"live: {counts.segments} segments, {counts.observations} faces"
        line += f", newest emotion {self._emotion or 'none'}"
        if counts.newest is not None:
            behind_s = max(0.0, (datetime.now(UTC) - counts.newest).total_seconds())
            line += f", {behind_s:.1f} s behind the air"
        line += f", {counts.failed} failed" if counts.failed else ""
        return line + (f", {counts.gaps} gaps" if counts.gaps else ", no gap")

    def waiting(self, until: datetime | None) -> None:
        """Show that the watch waits for the show."""
        self._state = f"waiting for the show until {until:%H:%M} UTC" if until else "waiting"

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Show that recording has begun."""
        self._state = "live, waiting for the first segment"

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """Show the new counts."""
        self._counts = counts
        if observations is not None and len(observations):
            means = observations.smoothed[observations.ts == observations.ts[-1]]
            self._emotion = EMOTIONS[int(np.nanargmax(np.nanmean(means, axis=0)))]
        if self._quiet or self._console.is_terminal:
            return
        if time.monotonic() - self._logged_at >= LOG_EVERY_S:
            self._logged_at = time.monotonic()
            self._log.info("%s", self.line())


def _clock(seconds: float) -> str:
    """Return a length of time as 0:47 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
