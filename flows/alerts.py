"""Emotion alerts: an emotion above a threshold for a time, reported once when it begins and ends.

Judged by the smoothed probabilities, in the order of their timestamps, so that the same rows raise
the same alerts whoever computes them and however late.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emotion.types import EMOTIONS, Observations

CLEARS_AT: Final = 0.8
"""An alert is over when the value has fallen below this share of its threshold (hysteresis)."""

FORGETS_AFTER: Final = timedelta(seconds=2)
"""Without a value for longer than this, what was counted is forgotten, and an alert is over."""

BEGIN_WITH: Final[Mapping[str, float]] = {
    "happiness": 0.8,
    "anger": 0.7,
    "disgust": 0.3,
    "fear": 0.3,
    "contempt": 0.3,
}
"""Thresholds that at most one calm minute in a hundred reaches, where they are not `ELSE_BEGIN`.

Measured in `docs/automations.md`, with the default network.
"""

ELSE_BEGIN: Final = 0.6

MAX_ALERTS: Final = 20
"""Alerts of one show: each face is held against each of them."""

DURATION_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*(s|m)\s*$"


class Emotion(StrEnum):
    """The emotions that the networks know, as the form's drop-down offers them."""

    neutral = "neutral"
    happiness = "happiness"
    surprise = "surprise"
    sadness = "sadness"
    anger = "anger"
    disgust = "disgust"
    fear = "fear"
    contempt = "contempt"


def begin_with(given: dict[str, Any]) -> float:
    """Return the threshold of an alert that says none, by what else it says."""
    return BEGIN_WITH.get(given.get("emotion", ""), ELSE_BEGIN)


class Alert(BaseModel):
    """Be told when an emotion stays above a threshold for a time."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    emotion: Annotated[Emotion, Field(title="Emotion")]
    above: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            title="Above",
            description="The threshold, between 0 and 1. Left empty: 0.8 for happiness, 0.7 for "
            "anger, 0.3 for disgust, fear and contempt, 0.6 for the others.",
            default_factory=begin_with,
        ),
    ]
    for_: Annotated[
        str,
        Field(
            alias="for",
            pattern=DURATION_PATTERN,
            title="For",
            description="How long it has to stay above, such as 3s or 1m.",
        ),
    ] = "3s"
    of: Annotated[
        Literal["track", "screen"],
        Field(title="Of", description="Of each face by itself, or the mean of the screen."),
    ] = "track"

    @property
    def length(self) -> timedelta:
        """Return how long the value has to stay above."""
        text = self.for_.strip()
        return timedelta(seconds=float(text[:-1]) * {"s": 1, "m": 60}[text[-1]])

    @property
    def clears_below(self) -> float:
        """Return the value below which it is over."""
        return self.above * CLEARS_AT


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """An alert that began, or ended.

    track: None where the alert is of the screen. since: when the value rose above the threshold;
    at: when that had lasted long enough, or when it was over; both aware UTC.
    """

    alert: Alert
    began: bool
    track: int | None
    since: datetime
    at: datetime
    value: float

    def summary(self) -> str:
        """Return it as a line of text."""
        whose = "the screen" if self.track is None else f"track {self.track}"
        if not self.began:
            return f"{self.alert.emotion.value} of {whose} is over, since {self.at:%H:%M:%S} UTC"
        return (
            f"{self.alert.emotion.value} of {whose} is above {self.alert.above:g} "
            f"since {self.since:%H:%M:%S} UTC ({self.value:.2f} now)"
        )


@dataclass(kw_only=True, slots=True)
class _Subject:
    """A track, or the screen, in the eyes of one alert."""

    since: datetime | None = None
    raised: bool = False
    last: datetime | None = None
    value: float = 0.0


@dataclass(kw_only=True, slots=True)
class AlertWatch:
    """Follows one broadcast's observations, and says what begins and ends."""

    alerts: Sequence[Alert]
    _subjects: dict[tuple[int, int | None], _Subject] = field(default_factory=dict, init=False)

    def update(self, observations: Observations, until: datetime) -> list[Raised]:
        """Return what these observations, later than all before, begin and end; in order of time.

        until: aware UTC, the end of what was observed: what was last seen long before is over.
        """
        found: list[Raised] = []
        for number, alert in enumerate(self.alerts):
            for at, track, value in _values(observations, alert):
                found += self._see(number, alert, track, at, value)
        found += self._forget(until)
        return sorted(found, key=lambda each: each.at)

    def close(self) -> list[Raised]:
        """Return what ends because the broadcast does."""
        return self._forget(datetime.max.replace(tzinfo=UTC))

    def _see(
        self, number: int, alert: Alert, track: int | None, at: datetime, value: float
    ) -> Iterator[Raised]:
        subject = self._subjects.setdefault((number, track), _Subject())
        if subject.last is not None and at - subject.last > FORGETS_AFTER:
            yield from self._over(alert, track, subject)
            subject = self._subjects[number, track] = _Subject()
        subject.last, subject.value = at, value
        if subject.raised:
            if value < alert.clears_below:
                yield from self._over(alert, track, subject)
                self._subjects[number, track] = _Subject(last=at)
        elif value < alert.above:
            subject.since = None
        else:
            subject.since = subject.since or at
            if at - subject.since >= alert.length:
                subject.raised = True
                yield Raised(
                    alert=alert, began=True, track=track, since=subject.since, at=at, value=value
                )

    def _forget(self, until: datetime) -> list[Raised]:
        found: list[Raised] = []
        for (number, track), subject in list(self._subjects.items()):
            if subject.last is not None and until - subject.last > FORGETS_AFTER:
                found += self._over(self.alerts[number], track, subject)
                del self._subjects[number, track]
        return found

    def _over(self, alert: Alert, track: int | None, subject: _Subject) -> Iterator[Raised]:
        if subject.raised and subject.since is not None and subject.last is not None:
            yield Raised(
                alert=alert,
                began=False,
                track=track,
                since=subject.since,
                at=subject.last,
                value=subject.value,
            )


def _values(rows: Observations, alert: Alert) -> Iterator[tuple[datetime, int | None, float]]:
    """Yield time, track and value, by time; nothing where the network lacks the emotion."""
    values = rows.smoothed[:, EMOTIONS.index(alert.emotion.value)]
    known = ~np.isnan(values)
    ts, track, values = rows.ts[known], rows.track[known], values[known]
    if alert.of == "screen":
        moments, of = np.unique(ts, return_inverse=True)
        means = np.bincount(of, weights=values) / np.maximum(np.bincount(of), 1)
        for moment, mean in zip(moments.tolist(), means.tolist(), strict=True):
            yield moment.replace(tzinfo=UTC), None, mean
        return
    for moment, number, value in zip(ts.tolist(), track.tolist(), values.tolist(), strict=True):
        yield moment.replace(tzinfo=UTC), number, value
