"""Shared by the parts of `benchmarks.analysis`: clips, alternating runs, and figures."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from benchmarks.analysis.made_clip import cut, make_clip
from emotion.weights import store as weights

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT_PX: Final = weights.detector_model(weights.DEFAULT_DETECTOR).input_px
FULL_PX: Final = 1280
_REST_S: Final = 0.4  # ONNX Runtime's threads spin for some time after a run


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One line of the table."""

    part: str
    what: str
    value: float
    unit: str
    goal: str = ""


class Bench:
    """The clips, and the figures so far."""

    def __init__(
        self,
        work: Path,
        rounds: int,
        *,
        table: Path | None = None,
        media: Path | None = None,
        short: bool = False,
    ) -> None:
        """Start without figures; clips are generated when needed.

        table: a file that gets each line as soon as it is there. media: real clips. short: enough
        to see that everything runs.
        """
        self.work, self.rounds, self.media, self.short = work, rounds, media, short
        self.figures: list[Figure] = []
        self._table = table

    @cached_property
    def clip(self) -> Path:
        """Twenty seconds with eight faces."""
        return make_clip(self.work / "eight.mp4", duration_s=20)

    @cached_property
    def pieces(self) -> list[Path]:
        """Ten seconds with three faces, in segments."""
        clip = make_clip(self.work / "three.mp4", duration_s=10, faces=3)
        return cut(clip, self.work / "three")

    def say(self, part: str, what: str, value: float, unit: str, goal: str = "") -> None:
        """Store and print a figure."""
        self.figures.append(Figure(part=part, what=what, value=float(value), unit=unit, goal=goal))
        self.line(f"{part:9} {what:58} {value:9.4g} {unit:12} {goal}")

    def line(self, text: str) -> None:
        """Print a line, and add it to the table."""
        print(text, flush=True)
        if self._table is not None:
            with self._table.open("a") as file:
                file.write(f"{text}\n")


def by_turns(rounds: int, *ways: Callable[[], object]) -> list[list[float]]:
    """Return the seconds of each method in each round; the methods alternate."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, times in zip(ways, taken, strict=True):
            time.sleep(_REST_S)
            began = time.perf_counter()
            way()
            times.append(time.perf_counter() - began)
    return taken


def database() -> str:
    """Return the URL of the throw-away database."""
    return os.environ["SHOWMOOD_DATABASE_URL"]
