"""Plans of faults, deterministic by seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.origin.scenarios import SCENARIOS
from flows.control.healing import MIN_CRASH_INTERVAL_S

DEAD_AFTER_S: Final = 40
"""SHOWMOOD_DEAD_AFTER_S of the stack under test."""

SETTLED_S: Final = 60.0
"""Seconds without faults at the end."""

Cause = Literal["source", "disk", "process", "other"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A fault of the machine. lasts_s: minimum and maximum; 0 is instantaneous.

    cause: cause of the gaps that it makes. of_show: affects one show's watcher, not all.
    ends: it ends a watch, which stays Crashed if that happens again within MIN_CRASH_INTERVAL_S.
    apart_s: minimum interval, because `showmood up` gives up parts that end too often.
    rest_s: minimum pause after it.
    """

    name: str
    cause: Cause
    lasts_s: tuple[float, float] = (0.0, 0.0)
    of_show: bool = False
    ends: bool = False
    apart_s: float = 0.0
    rest_s: float = 0.0


KINDS: Final = (
    Kind(name="watcher killed", cause="process", of_show=True, ends=True),
    Kind(name="watcher terminated", cause="process", of_show=True, ends=True),
    Kind(name="watcher stopped", cause="process", of_show=True, lasts_s=(3, 25)),
    Kind(
        name="watcher stopped until taken for dead",
        cause="process",
        of_show=True,
        ends=True,
        lasts_s=(DEAD_AFTER_S + 10, DEAD_AFTER_S + 25),
    ),
    Kind(name="worker killed", cause="process", apart_s=150),
    Kind(name="worker stopped", cause="process", lasts_s=(5, 40)),
    Kind(name="other clock's worker killed", cause="process", apart_s=60),
    Kind(name="server killed", cause="process", apart_s=150),
    Kind(name="server stopped", cause="process", lasts_s=(5, 45)),
    Kind(name="up stopped", cause="process", lasts_s=(5, 20)),
    Kind(name="machine rebooted", cause="process", ends=True, apart_s=300, rest_s=45),
    Kind(name="database session ended", cause="other"),
    Kind(name="database backend killed", cause="other"),
    Kind(name="database stopped", cause="other", lasts_s=(3, 25)),
    Kind(name="database killed", cause="other", apart_s=150, rest_s=15),
    Kind(name="database shut down at once", cause="other", apart_s=150, rest_s=15),
    Kind(name="disk full", cause="disk", lasts_s=(5, 25)),
    Kind(name="disk short", cause="disk", lasts_s=(5, 25)),
    Kind(name="disk read-only", cause="disk", lasts_s=(4, 12)),
    Kind(name="network cut", cause="source", lasts_s=(4, 20)),
    Kind(name="network slow", cause="source", lasts_s=(5, 25)),
    Kind(name="clock set ahead", cause="other", lasts_s=(10, 30)),
    Kind(name="clock set back", cause="other", lasts_s=(10, 30)),
)

NETWORK: Final = ("network cut", "network slow")
"""Faults of all sources at once; a source has no other fault at the same time."""

_QUIET_S: Final = (6.0, 18.0)
_SOURCE_QUIET_S: Final = (6.0, 40.0)
_MIN_FACTOR: Final = 0.2
_MAX_FACTOR: Final = 1.5
"""Minimum and maximum length of a source's fault, relative to the table of faults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A fault of the plan: start, length, show; None for the machine."""

    at_s: float
    lasts_s: float
    name: str
    cause: Cause
    show: int | None = None

    @property
    def end_s(self) -> float:
        """Return its end in seconds."""
        return self.at_s + self.lasts_s

    def summary(self) -> str:
        """Return a line for the log."""
        whose = "" if self.show is None else f" of show {self.show}"
        length = f", for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.name}{whose}{length}"


def make_plan(seed: int, duration_s: float, *, n_shows: int) -> list[Step]:
    """Return the plan, in order: one fault of the machine at a time, and one of each source."""
    chance = random.Random(seed)
    end_s = duration_s - SETTLED_S
    machine = list(_of_machine(chance, end_s, n_shows))
    cuts = [step for step in machine if step.name in NETWORK]
    sources = [
        step
        for show in range(n_shows)
        for step in _of_source(chance, end_s, show)
        if not any(step.at_s < cut.end_s + 1 and cut.at_s - 1 < step.end_s for cut in cuts)
    ]
    return sorted([*machine, *sources], key=lambda step: step.at_s)


def fixed_plan(names: Sequence[str], *, apart_s: float, lasts_s: float) -> list[Step]:
    """Return a plan of the machine's faults by name, one after another."""
    steps = []
    at_s = 0.0
    for name in names:
        kind = next(kind for kind in KINDS if kind.name == name)
        length_s = lasts_s if kind.lasts_s[1] else 0.0
        show = 0 if kind.of_show else None
        step = Step(at_s=at_s, lasts_s=length_s, name=name, cause=kind.cause, show=show)
        steps.append(step)
        at_s += length_s + apart_s
    return steps


def _of_machine(chance: random.Random, end_s: float, n_shows: int) -> Iterator[Step]:
    """Yield all kinds in random order, repeatedly."""
    ended_s = [-1e9] * n_shows
    last_s: dict[str, float] = {}
    at_s = chance.uniform(*_QUIET_S)
    while True:
        for kind in chance.sample(KINDS, len(KINDS)):
            show = chance.randrange(n_shows) if kind.of_show else None
            lasts_s = chance.uniform(*kind.lasts_s)
            hit = range(n_shows) if show is None else (show,)
            if kind.ends:
                at_s = max([at_s, *(ended_s[n] + MIN_CRASH_INTERVAL_S + 45 for n in hit)])
            if at_s + lasts_s > end_s:
                return
            if at_s < last_s.get(kind.name, -1e9) + kind.apart_s:
                continue
            yield Step(at_s=at_s, lasts_s=lasts_s, name=kind.name, cause=kind.cause, show=show)
            last_s[kind.name] = at_s
            at_s += lasts_s
            if kind.ends:
                for n in hit:
                    ended_s[n] = at_s
            at_s += kind.rest_s + chance.uniform(*_QUIET_S)


def _of_source(chance: random.Random, end_s: float, show: int) -> Iterator[Step]:
    choices = [scenario for scenario in SCENARIOS if not scenario.final]
    at_s = chance.uniform(*_SOURCE_QUIET_S)
    while True:
        scenario = chance.choice(choices)
        lasts_s = scenario.lasts_s * chance.uniform(_MIN_FACTOR, _MAX_FACTOR)
        if at_s + lasts_s > end_s:
            return
        yield Step(at_s=at_s, lasts_s=lasts_s, name=scenario.name, cause="source", show=show)
        at_s += lasts_s + chance.uniform(*_SOURCE_QUIET_S)
