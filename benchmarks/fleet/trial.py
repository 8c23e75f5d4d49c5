"""A trial: a fault with a name, by which it can be run alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.fleet.fleet import Fleet

Do = Callable[[Fleet, str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A fault of a fleet.

    do: takes the fleet and the name of the show, returns a short summary; raises
    AssertionError. shows: number of shows, named after the trial, with a number if several.
    is_short: also part of the short form.
    """

    name: str
    what: str
    do: Do
    n_shows: int = 1
    is_short: bool = False

    @property
    def slugs(self) -> list[str]:
        """Return its shows' names."""
        slug = self.name.replace("_", "-")
        return [slug] if self.n_shows == 1 else [f"{slug}-{n}" for n in range(self.n_shows)]


TRIALS: Final[dict[str, Trial]] = {}


def trial(what: str, *, n_shows: int = 1, is_short: bool = False) -> Callable[[Do], Do]:
    """Decorator: make a function a trial with this name."""

    def keep(do: Do) -> Do:
        TRIALS[do.__name__] = Trial(
            name=do.__name__, what=what, do=do, n_shows=n_shows, is_short=is_short
        )
        return do

    return keep
