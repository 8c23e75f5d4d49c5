"""Observers that are notified of a watched show's events."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from emotion.types import Observations
from flows.capture.segment import Gap, Segment

if TYPE_CHECKING:
    from flows.live.rows.analysis import Counts


class Observer:
    """Receives every event, and does nothing; the base of all observers.

    Its methods must neither raise nor block, as that would disturb the show.
    """

    def waiting(self, until: datetime | None) -> None:
        """The show is not on air yet; until: its announced start, aware UTC."""

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Recording of a broadcast has begun."""

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """A segment or gap is stored; observations None: a gap, or the analysis failed."""

    def missed(self, why: str) -> None:
        """The show never went on air."""

    def ended(self, status: str) -> None:
        """The broadcast has ended; status: completed, failed or cancelled."""


class Observers(Observer):
    """Passes each event on to several observers."""

    def __init__(self, *observers: Observer) -> None:
        """Keep the observers, in the order in which they are notified."""
        self._observers = observers

    def waiting(self, until: datetime | None) -> None:
        """Pass on."""
        for each in self._observers:
            each.waiting(until)

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Pass on."""
        for each in self._observers:
            each.began(engine, started_at, planned_end)

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """Pass on."""
        for each in self._observers:
            each.took(item, observations, counts)

    def missed(self, why: str) -> None:
        """Pass on."""
        for each in self._observers:
            each.missed(why)

    def ended(self, status: str) -> None:
        """Pass on."""
        for each in self._observers:
            each.ended(status)
