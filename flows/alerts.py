"""Emotion alerts: an emotion above a threshold for a time, reported once when it begins and ends.

Computed from the smoothed probabilities in timestamp order alone, so that the same rows always
raise the same alerts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emotion.types import EMOTIONS, Observations

CLEAR_RATIO: Final = 0.8
"""Share of the threshold below which an alert ends (hysteresis)."""

MAX_VALUE_GAP: Final = timedelta(seconds=2)
"""Longest time without a value; after it an alert ends, and its timing starts again."""

DEFAULT_THRESHOLDS: Final[Mapping[str, float]] = {
    "happiness": 0.8,
    "anger": 0.7,
    "disgust": 0.3,
    "fear": 0.3,
    "contempt": 0.3,
}
"""Default thresholds, chosen so that at most one calm minute in a hundred reaches them.

Other emotions have `FALLBACK_THRESHOLD`. Measured in `docs/automations.md`, default network.
"""

FALLBACK_THRESHOLD: Final = 0.6

MAX_ALERTS: Final = 20
"""Alerts of one show; each face is compared with each of them."""

DURATION_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*(s|m)\s*$"


class Emotion(StrEnum):
    """The emotions, as Prefect's form offers them in a drop-down list."""

    neutral = "neutral"
    happiness = "happiness"
    surprise = "surprise"
    sadness = "sadness"
    anger = "anger"
    disgust = "disgust"
    fear = "fear"
    contempt = "contempt"


def default_threshold(given: dict[str, Any]) -> float:
    """Return the default threshold for an alert, from its other fields."""
    return DEFAULT_THRESHOLDS.get(given.get("emotion", ""), FALLBACK_THRESHOLD)


class Alert(BaseModel):
    """An alert when an emotion stays above a threshold for a time."""

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
            default_factory=default_threshold,
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
        """Return the value below which it ends."""
        return self.above * CLEAR_RATIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """The beginning or end of an alert.

    track: None for an alert of the screen. since: when the value rose above the threshold; at:
    when it had stayed there long enough, or when it ended; both aware UTC.
    """

    alert: Alert
    began: bool
    track: int | None
    since: datetime
    at: datetime
    value: float

    def summary(self) -> str:
        """Return it as a line of text."""
        subject = "the screen" if self.track is None else f"track {self.track}"
        if not self.began:
            return f"{self.alert.emotion.value} of {subject} is over, since {self.at:%H:%M:%S} UTC"
        return (
            f"{self.alert.emotion.value} of {subject} is above {self.alert.above:g} "
            f"since {self.since:%H:%M:%S} UTC ({self.value:.2f} now)"
        )


@dataclass(kw_only=True, slots=True)
class _Subject:
    """State of one alert for one track, or for the screen."""

    since: datetime | None = None
    raised: bool = False
    last: datetime | None = None
    value: float = 0.0


@dataclass(kw_only=True, slots=True)
class AlertWatch:
    """Finds the alerts that begin and end in one broadcast's observations."""

    alerts: Sequence[Alert]
    _subjects: dict[tuple[int, int | None], _Subject] = field(default_factory=dict, init=False)

    def update(self, observations: Observations, until: datetime) -> list[Raised]:
        """Return the alerts that begin and end in these observations, in order of time.

        observations: later than all before. until: aware UTC, the end of the observed time.
        """
        found: list[Raised] = []
        for number, alert in enumerate(self.alerts):
            for at, track, value in _values(observations, alert):
                found += self._see(number, alert, track, at, value)
        found += self._forget(until)
        return sorted(found, key=lambda each: each.at)

    def close(self) -> list[Raised]:
        """Return the alerts that end with the broadcast."""
        return self._forget(datetime.max.replace(tzinfo=UTC))

    def _see(
        self, number: int, alert: Alert, track: int | None, at: datetime, value: float
    ) -> Iterator[Raised]:
        subject = self._subjects.setdefault((number, track), _Subject())
        if subject.last is not None and at - subject.last > MAX_VALUE_GAP:
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
            if subject.last is not None and until - subject.last > MAX_VALUE_GAP:
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
    """Yield time, track and value in order of time; empty if the network lacks the emotion."""
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
