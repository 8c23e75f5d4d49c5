"""Events of a show: which, when, and with which labels."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine

from emotion.types import EMOTIONS, Observations
from flows.alerts import Alert
from flows.capture.segment import Gap, Segment
from flows.control.events import EventObserver
from flows.live.rows.analysis import Counts

T0 = datetime(2026, 11, 22, 20, tzinfo=UTC)
LOG = logging.getLogger("test")
ENGINE = create_engine("postgresql+psycopg2://nowhere/none")  # never connected to


def segment(start_s: float = 0.0, duration_s: float = 2.0) -> Segment:
    return Segment(
        channel="news",
        broadcast=1,
        sequence=0,
        start=T0 + timedelta(seconds=start_s),
        start_is_estimated=False,
        duration_s=duration_s,
        path=Path("0.ts"),
        width_px=0,
        height_px=0,
    )


def angry(value: float, seconds: float) -> Observations:
    """Return two seconds of one face, five times a second."""
    m = 10
    smoothed = np.zeros((m, len(EMOTIONS)), np.float32)
    smoothed[:, EMOTIONS.index("anger")] = value
    first = np.datetime64(T0.replace(tzinfo=None), "us") + np.timedelta64(int(seconds * 1e6), "us")
    return Observations(
        ts=first + np.arange(m) * np.timedelta64(200_000, "us"),
        track=np.full(m, 7),
        boxes=np.zeros((m, 4), np.float32),
        scores=np.ones(m, np.float32),
        probs=smoothed,
        smoothed=smoothed,
    )


class Heard:
    """Stores events instead of sending them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def __call__(self, event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        self.events.append((event, resource, payload))

    @property
    def names(self) -> list[str]:
        return [name.removeprefix("showmood.") for name, _, _ in self.events]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def teller(heard: Heard, *alerts: Alert) -> EventObserver:
    return EventObserver(
        channel="news",
        url="https://example.com/live",
        alerts=alerts,
        gap_s=10,
        behind_s=10,
        log=LOG,
        emit=heard,
    )


def test_a_show_is_started_and_ended(heard: Heard) -> None:
    told = teller(heard)
    told.began(ENGINE, T0, T0 + timedelta(hours=1))
    told.took(segment(), None, Counts(segments=1, frames=10, observations=4))
    told.ended("cancelled")
    assert heard.names == ["show.started", "show.ended"]
    (_, started, begun), (_, ended, over) = heard.events
    assert started == {
        "prefect.resource.id": "showmood.show.news",
        "prefect.resource.name": "news",
        "showmood.channel": "news",
    }
    assert begun["planned_end"] == "2026-11-22T21:00:00+00:00"
    assert ended["showmood.status"] == "cancelled"
    assert over["said"] == "1 segments, 10 frames, 4 faces"


def test_a_missed_show_is_an_event_without_an_end(heard: Heard) -> None:
    told = teller(heard)
    told.missed("not live until 21:00")
    told.ended("failed")
    assert heard.names == ["show.missed"]
    assert heard.events[0][2]["why"] == "not live until 21:00"


def test_only_long_gaps_are_events(heard: Heard) -> None:
    told = teller(heard)
    for length_s in (10, 11):
        gap = Gap(start=T0, end=T0 + timedelta(seconds=length_s), why="HTTP 503")
        told.took(gap, None, Counts())
    assert heard.names == ["show.gap"]
    assert (heard.events[0][2]["length_s"], heard.events[0][2]["why"]) == (11.0, "HTTP 503")


def test_lag_is_one_event_until_it_has_caught_up(heard: Heard) -> None:
    told = teller(heard)
    for lag_s in (1, 9, 11, 30, 9, 6, 4, 3, 12):
        told.took(segment(), angry(0, 0), Counts(lag_s=lag_s))
    assert heard.names == ["show.behind", "show.caught-up", "show.behind"]
    assert heard.events[0][2]["behind_s"] == 11


def test_alerts_can_be_matched_by_emotion_and_clipped(heard: Heard) -> None:
    told = teller(heard, Alert.model_validate({"emotion": "anger", "above": 0.6, "for": "3s"}))
    told.began(ENGINE, T0, T0 + timedelta(hours=1))
    for start_s, value in ((0, 0.7), (2, 0.7), (4, 0.7), (6, 0.1)):
        told.took(segment(start_s), angry(value, start_s), Counts())
    told.ended("completed")
    assert heard.names == ["show.started", "alert.raised", "alert.cleared", "show.ended"]
    _, resource, payload = heard.events[1]
    assert (resource["showmood.emotion"], resource["showmood.of"]) == ("anger", "track")
    assert (payload["track"], payload["value"]) == (7, 0.7)
    assert payload["clip_from"] == "2026-11-22T19:59:50+00:00"
    assert payload["clip_to"] == "2026-11-22T20:00:13+00:00"


def test_an_alert_ends_with_the_show(heard: Heard) -> None:
    told = teller(heard, Alert.model_validate({"emotion": "anger", "for": "1s"}))
    told.began(ENGINE, T0, T0 + timedelta(hours=1))
    told.took(segment(), angry(0.9, 0), Counts())
    told.ended("completed")
    assert heard.names == ["show.started", "alert.raised", "alert.cleared", "show.ended"]


def test_a_show_continues_when_events_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        raise OSError("no server")

    told = EventObserver(channel="news", url="", gap_s=1, behind_s=1, log=LOG, emit=broken)
    told.began(ENGINE, T0, T0)
    assert "showmood.show.started was not sent" in caplog.text


def test_a_flood_of_alerts_is_muted_once(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    at = iter(range(10**6))
    told = teller(heard, Alert.model_validate({"emotion": "anger", "for": "1s"}))
    told.clock = lambda: next(at) / 100
    for number in range(200):
        told.took(segment(5.0 * number), angry(0.9, 5.0 * number), Counts())
    told.ended("completed")
    assert heard.names.count("show.muted") == 1
    assert heard.names.count("alert.raised") == heard.names.count("alert.cleared") == 30
    assert caplog.text.count("no more are sent") == 1
    told.clock = lambda: 1e9
    told.took(segment(), angry(0.9, 5000.0), Counts())
    assert heard.names.count("alert.raised") == 31
