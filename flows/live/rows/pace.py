"""Reduces the number of analysed frames when the machine is overloaded.

In two steps: half as many, only of reference frames; then keyframes only. It steps down at once,
and up after a number of segments without delay, which doubles when a step up was too early.
"""

from dataclasses import dataclass
from typing import Final

from emotion.media.decode import Skip

FALLING_BEHIND: Final = 2.0
"""Step down when a segment's lag exceeds this multiple of its length."""

CAUGHT_UP: Final = 0.75
"""A segment is without delay when its lag is below this multiple of its length."""

CALM: Final = 5
"""Consecutive segments without delay before a step up."""

MAX_CALM: Final = 80
SOON: Final = 30
"""A step up was too early if a step down follows within this many segments."""


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
    """Chooses the level from the lags of the segments so far."""

    def __init__(self) -> None:
        """Start with all frames."""
        self._step = 0
        self._calm = 0
        self._needed = CALM
        self._since_up = SOON

    @property
    def level(self) -> Level:
        """Return the level for the next segment."""
        return LEVELS[self._step]

    @property
    def is_full(self) -> bool:
        """Return whether all requested frames are analysed."""
        return self._step == 0

    def update(self, lag_s: float, duration_s: float) -> bool:
        """Take a segment's lag into account; return whether the level changed."""
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
