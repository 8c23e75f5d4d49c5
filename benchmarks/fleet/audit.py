"""Audit of each second of a show: a row, a gap with its reason, or waiting on a disk."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from benchmarks.fleet.fleet import Fleet
from flows.capture.recorded.journal import read_events
from flows.capture.segment import Segment

ROUNDED_S: Final = 0.5
"""Tolerance in seconds for missing or duplicate content, from rounded dates."""

EARLY_S: Final = 10.0
"""Seconds before its planned end up to which a completed show must have rows or a gap."""

Span = tuple[datetime, datetime]

_ROWS: Final = (
    "SELECT s.broadcast_id, s.started_at, s.ended_at, s.machine, s.object_key"
    " FROM segments s JOIN channels c ON c.id = s.channel_id WHERE c.slug = :slug"
)
_GAPS: Final = (
    "SELECT g.broadcast_id, g.started_at, g.ended_at, g.why"
    " FROM gaps g JOIN channels c ON c.id = g.channel_id WHERE c.slug = :slug"
)
_SHOWS: Final = (
    "SELECT b.id, b.status, b.planned_end FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
    " WHERE c.slug = :slug"
)


@dataclass(kw_only=True, slots=True)
class Account:
    """A show's seconds. early_s: time without rows before its planned end."""

    rows_s: Counter[str] = field(default_factory=Counter)
    gaps_s: Counter[str] = field(default_factory=Counter)
    waits_s: Counter[str] = field(default_factory=Counter)
    statuses: list[str] = field(default_factory=list)
    lost_s: float = 0.0
    twice_s: float = 0.0
    early_s: float = 0.0
    n_rows: int = 0
    n_copied: int = 0

    @property
    def is_whole(self) -> bool:
        """Return whether every second is accounted for exactly once."""
        is_right = max(self.lost_s, self.twice_s) < ROUNDED_S and self.early_s < EARLY_S
        return self.n_rows > 0 and is_right

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        copied = f"{self.n_copied} of {self.n_rows}"
        lost = f"{self.lost_s:.2f}" + (f", {self.early_s:.0f} at its end" if self.early_s else "")
        seconds = [_summary(each) for each in (self.rows_s, self.gaps_s, self.waits_s)]
        return [*seconds, lost, f"{self.twice_s:.2f}", copied, ", ".join(self.statuses)]


HEAD: Final = ("s of rows", "s of gaps", "s that wait", "s lost", "s twice", "copied", "broadcast")


def audit(fleet: Fleet, slug: str) -> Account:
    """Audit every show of a channel."""
    account = Account()
    rows, gaps = fleet.rows(_ROWS, slug=slug), fleet.rows(_GAPS, slug=slug)
    waiting = _waiting(fleet, slug, {(row.broadcast_id, row.started_at) for row in rows})
    account.n_rows = len(rows)
    account.n_copied = sum(row.object_key is not None for row in rows)
    for row in rows:
        account.rows_s[str(row.machine)] += _length_s(row.started_at, row.ended_at)
    for gap in gaps:
        account.gaps_s[gap.why] += _length_s(gap.started_at, gap.ended_at)
    for show in fleet.rows(_SHOWS, slug=slug):
        stored = [(e.started_at, e.ended_at) for e in (*rows, *gaps) if e.broadcast_id == show.id]
        account.statuses.append(show.status)
        if not stored:
            continue
        covered = _union(stored)
        account.twice_s += _sum_s(stored) - _sum_s(covered)
        waits = [(name, span) for name, number, span in waiting if number == show.id]
        every = list(covered)
        for name, span in waits:
            with_it = _union([*every, span])
            account.waits_s[name] += _sum_s(with_it) - _sum_s(every)
            every = with_it
        end = max(stop for _, stop in every)
        account.lost_s += _length_s(min(start for start, _ in every), end) - _sum_s(every)
        if show.status == "completed" and show.planned_end is not None:
            early_s = _length_s(end, show.planned_end)
            account.early_s += early_s if early_s > EARLY_S else 0.0
    return account


def _waiting(
    fleet: Fleet, slug: str, stored: set[tuple[int, datetime]]
) -> list[tuple[str, int, Span]]:
    """Return recordings on disks without rows: machine, broadcast, start."""
    found = []
    for name, machine in fleet.machines.items():
        for folder in sorted((machine.home / "recordings" / slug).glob("*/")):
            for event in read_events(folder):
                is_there = isinstance(event, Segment) and event.path.exists()
                if is_there and (event.broadcast, event.start) not in stored:
                    found.append((name, event.broadcast, (event.start, event.end)))
    return found


def _union(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _sum_s(spans: Iterable[Span]) -> float:
    return sum((end - start for start, end in spans), timedelta(0)).total_seconds()


def _length_s(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _summary(seconds: Counter[str]) -> str:
    said = [f"{s:.0f} {name}" for name, s in seconds.most_common() if s >= 0.1]
    return ", ".join(said) or "none"
