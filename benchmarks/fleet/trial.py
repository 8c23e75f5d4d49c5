"""A trial: a trouble that a show has, under a name by which it is run alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.fleet.fleet import Fleet

Do = Callable[[Fleet, str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What is done to a fleet.

    do: given the fleet and the name of the show, returns a few words on how it went; raises
    AssertionError. shows: its shows' names are the trial's, with a number where there are more.
    is_short: it is in the short form too.
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
    """Have a function be a trial of its own name."""

    def keep(do: Do) -> Do:
        TRIALS[do.__name__] = Trial(
            name=do.__name__, what=what, do=do, n_shows=n_shows, is_short=is_short
        )
        return do

    return keep
