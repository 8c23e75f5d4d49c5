"""The events that a watched show emits, for Prefect's automations; see docs/automations.md.

Each is about the resource `showmood.show.<channel>`. Automations match its labels; the payload is
for people and templates. Prefect adds the flow run and its deployment.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine

from emotion.types import Observations
from flows.alerts import Alert, AlertWatch, Raised
from flows.capture.segment import Gap, Segment
from flows.live.rows.observers import Observer

if TYPE_CHECKING:
    from flows.live.rows.analysis import Counts

STARTED: Final = "showmood.show.started"
ENDED: Final = "showmood.show.ended"
MISSED: Final = "showmood.show.missed"
GAP: Final = "showmood.show.gap"
BEHIND: Final = "showmood.show.behind"
CAUGHT_UP: Final = "showmood.show.caught-up"
RAISED: Final = "showmood.alert.raised"
CLEARED: Final = "showmood.alert.cleared"

MUTED: Final = "showmood.show.muted"

MAX_A_MINUTE: Final = 30
"""Most events of gaps, alerts and lags of one show in a minute; then one `MUTED` event is sent.
Each event is a row in Prefect's database, and may start a run."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
Emit = Callable[[str, dict[str, str], dict[str, Any]], None]
"""Takes an event's name, its resource's labels and its payload."""


def emit_to_prefect(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
    """Queue an event for Prefect's background thread, which sends it."""
    from prefect.events import emit_event  # imported here: takes seconds

    emit_event(event=event, resource=resource, payload=payload)


def labels(channel: str, **more: str) -> dict[str, str]:
    """Return a channel's resource: its id, its name, and further labels."""
    return {
        "prefect.resource.id": f"showmood.show.{channel}",
        "prefect.resource.name": channel,
        "showmood.channel": channel,
    } | {f"showmood.{name}": value for name, value in more.items()}


@dataclass(kw_only=True, slots=True)
class EventObserver(Observer):
    """Emits Prefect events for one show.

    gap_s, behind_s: longer gaps, and longer lags, are events. clock: in seconds.
    """

    channel: str
    url: str
    alerts: tuple[Alert, ...] = ()
    gap_s: float
    behind_s: float
    log: Log
    emit: Emit = emit_to_prefect
    clock: Callable[[], float] = time.monotonic
    _sent_at: deque[float] = field(default_factory=deque, init=False)
    _is_muted: bool = field(default=False, init=False)
    _suppressed: set[tuple[Alert, int | None]] = field(default_factory=set, init=False)
    _watch: AlertWatch = field(init=False)
    _is_behind: bool = field(default=False, init=False)
    _began: bool = field(default=False, init=False)
    _counts: "Counts | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Begin with nothing raised."""
        self._watch = AlertWatch(alerts=self.alerts)

    def began(self, engine: Engine, started_at: datetime, planned_end: datetime) -> None:
        """Emit that the show is being recorded."""
        self._began = True
        self._emit(
            STARTED,
            {"url": self.url, "started_at": _iso(started_at), "planned_end": _iso(planned_end)},
        )

    def took(
        self, item: Segment | Gap, observations: Observations | None, counts: "Counts"
    ) -> None:
        """Emit long gaps, falling behind and catching up, and alerts."""
        self._counts = counts
        if isinstance(item, Gap):
            length_s = (item.end - item.start).total_seconds()
            if length_s > self.gap_s and self._may_emit():
                self._emit(
                    GAP,
                    {
                        "start": _iso(item.start),
                        "end": _iso(item.end),
                        "length_s": round(length_s, 1),
                        "why": item.why,
                    },
                )
        elif observations is not None:
            for raised in self._watch.update(observations, item.end):
                self._emit_alert(raised)
        self._emit_lag(counts.lag_s)

    def missed(self, why: str) -> None:
        """Emit that the show never went on air."""
        self._emit(MISSED, {"url": self.url, "why": why})

    def ended(self, status: str) -> None:
        """Emit how it ended; an alert that is still raised ends."""
        for raised in self._watch.close():
            self._emit_alert(raised)
        if self._began:
            text = self._counts.summary() if self._counts else "nothing was recorded"
            self._emit(ENDED, {"status": status, "said": text}, status=status)

    def _emit_lag(self, lag_s: float | None) -> None:
        if lag_s is None:
            return
        if not self._is_behind and lag_s > self.behind_s and self._may_emit():
            self._is_behind = True
            self._emit(BEHIND, {"behind_s": round(lag_s, 1)})
        elif self._is_behind and lag_s < self.behind_s / 2:
            self._is_behind = False
            self._emit(CAUGHT_UP, {"behind_s": round(lag_s, 1)})

    def _emit_alert(self, raised: Raised) -> None:
        alert = raised.alert
        if raised.began and not self._may_emit():
            self._suppressed.add((alert, raised.track))
            return
        if not raised.began and (alert, raised.track) in self._suppressed:
            self._suppressed.discard((alert, raised.track))
            return
        if raised.began:
            self.log.warning("alert: %s", raised.summary())
        else:
            self.log.info("alert: %s", raised.summary())
        payload: dict[str, Any] = {
            "said": raised.summary(),
            "track": raised.track,
            "since": _iso(raised.since),
            "at": _iso(raised.at),
            "value": round(raised.value, 4),
            "above": alert.above,
            # For an automation that cuts a clip: with some seconds of context.
            "clip_from": _iso(raised.since - CONTEXT),
            "clip_to": _iso(raised.at + CONTEXT),
        }
        self._emit(
            RAISED if raised.began else CLEARED,
            payload,
            emotion=alert.emotion.value,
            of=alert.of,
        )

    def _may_emit(self) -> bool:
        """Count an event; return whether the rate limit allows it, and emit MUTED once if not."""
        now = self.clock()
        while self._sent_at and now - self._sent_at[0] > 60:
            self._sent_at.popleft()
        if len(self._sent_at) < MAX_A_MINUTE:
            self._sent_at.append(now)
            self._is_muted = False
            return True
        if not self._is_muted:
            self._is_muted = True
            text = f"more than {MAX_A_MINUTE} events in a minute: no more are sent for a while"
            self.log.warning("%s: %s", self.channel, text)
            self._emit(MUTED, {"said": text})
        return False

    def _emit(self, event: str, payload: Mapping[str, Any], **more: str) -> None:
        try:
            self.emit(event, labels(self.channel, **more), dict(payload))
        except Exception as e:  # noqa: BLE001 - a lost event must not end the show
            self.log.warning("the event %s was not sent: %r", event, e)


CONTEXT: Final = timedelta(seconds=10)
"""Length of a clip before and after its alert."""


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
