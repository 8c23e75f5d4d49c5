"""How many frames a watch analyses when the machine is overloaded.

Fewer in two steps: half as many, of those alone that other frames refer to; then keyframes alone.
Down at once, up again only after a while without delay, and after a while that doubles each time
that going up was too early.
"""

from dataclasses import dataclass
from typing import Final

from emotion.media.decode import Skip

FALLING_BEHIND: Final = 2.0
"""A step down when a segment's rows came more than so many segments' time after it was closed."""

CAUGHT_UP: Final = 0.75
"""Without delay is a segment whose rows came within less than this."""

CALM: Final = 5
"""So many segments in a row without delay, and it goes a step up."""

MAX_CALM: Final = 80
SOON: Final = 30
"""Going up was too early if it has to go down again within so many segments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Which frames are analysed. divisor: of the frames a second asked for; skip: not decoded."""

    name: str
    divisor: int
    skip: Skip


LEVELS: Final = (
    Level(name="all frames asked for", divisor=1, skip="needless"),
    Level(name="half the frames", divisor=2, skip="nonref"),
    Level(name="keyframes alone", divisor=1, skip="nonkey"),
)


class Pace:
    """The level, from the delays of the segments so far and nothing else."""

    def __init__(self) -> None:
        """Start with all frames."""
        self._step = 0
        self._calm = 0
        self._needed = CALM
        self._since_up = SOON

    @property
    def level(self) -> Level:
        """Return what to look at of the next segment."""
        return LEVELS[self._step]

    @property
    def is_full(self) -> bool:
        """Return whether all frames asked for are looked at."""
        return self._step == 0

    def update(self, lag_s: float, duration_s: float) -> bool:
        """Learn how late the rows of a segment were; tell whether the level changed."""
        waited = lag_s / duration_s
        before = self._step
        self._since_up += 1
        if waited > FALLING_BEHIND:
            self._calm = 0
            if self._step < len(LEVELS) - 1:
                too_early = self._since_up <= SOON
                self._needed = min(MAX_CALM, 2 * self._needed) if too_early else self._needed
                self._step += 1
                self._since_up = SOON
        elif waited < CAUGHT_UP:
            self._calm += 1
            if self._step > 0 and self._calm >= self._needed:
                self._step -= 1
                self._calm = self._since_up = 0
            elif self._step == 0 and self._calm >= MAX_CALM:
                self._needed = CALM
        else:
            self._calm = 0
        return self._step != before
