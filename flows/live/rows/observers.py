"""Observers of a watched show; the show does not depend on them."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from emotion.types import Observations
from flows.capture.segment import Gap, Segment

if TYPE_CHECKING:
    from flows.live.rows.analysis import Counts


class Observer:
    """Receives every event, and does nothing with it.

    Nothing here may raise or wait: a show is worth more than its report.
    """

    def waiting(self, until: datetime | None) -> None:
        """Hear that the show is not on air yet; until: its announced start, aware UTC."""

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Hear that a broadcast is recorded: one that began then, to be watched until then."""

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """Hear that a segment or gap is stored; no observations: it could not be analysed."""

    def missed(self, why: str) -> None:
        """Hear that the show never went on air."""

    def ended(self, status: str) -> None:
        """Hear how the broadcast ended: completed, failed or cancelled."""


class Observers(Observer):
    """Passes on to each of several."""

    def __init__(self, *observers: Observer) -> None:
        """Keep them, in the order in which they hear."""
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
