"""Alerts: start and end, on synthetic values."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from emotion.types import EMOTIONS, Observations
from flows.alerts import Alert, AlertWatch, Raised

T0 = datetime(2026, 11, 22, 20, tzinfo=UTC)
ANGER = EMOTIONS.index("anger")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def rows(*values: tuple[float, int, float]) -> Observations:
    """Return observations of anger: (seconds, track, value), in order."""
    m = len(values)
    smoothed = np.zeros((m, len(EMOTIONS)), np.float32)
    smoothed[:, ANGER] = [value for _, _, value in values]
    naive = T0.replace(tzinfo=None)
    return Observations(
        ts=np.array([naive + timedelta(seconds=s) for s, _, _ in values], "datetime64[us]"),
        track=np.array([track for _, track, _ in values], np.int64),
        boxes=np.zeros((m, 4), np.float32),
        scores=np.ones(m, np.float32),
        probs=smoothed,
        smoothed=smoothed,
    )


def series(*values: float, track: int = 1, start: float = 0.0, step: float = 0.5) -> Observations:
    return rows(*((start + i * step, track, value) for i, value in enumerate(values)))


def angry(above: float = 0.6, length: str = "1s", of: str = "track") -> Alert:
    return Alert.model_validate({"emotion": "anger", "above": above, "for": length, "of": of})


def told(*alerts: Alert, observed: Observations, until: float = 0.0) -> list[tuple[bool, float]]:
    """Return the starts (True) and ends of alerts, with their times."""
    found = AlertWatch(alerts=alerts).update(observed, at(until))
    return [(each.began, (each.at - T0).total_seconds()) for each in found]


def test_alert_begins_after_its_duration() -> None:
    assert told(angry(), observed=series(0.7, 0.7)) == []
    assert told(angry(), observed=series(0.7, 0.7, 0.7)) == [(True, 1.0)]


def test_a_value_below_the_threshold_restarts_the_duration() -> None:
    assert told(angry(), observed=series(0.7, 0.59, 0.7, 0.7)) == []
    assert told(angry(), observed=series(0.7, 0.59, 0.7, 0.7, 0.7)) == [(True, 2.0)]


def test_an_alert_is_raised_once() -> None:
    assert told(angry(), observed=series(*[0.9] * 20)) == [(True, 1.0)]


def test_an_alert_ends_below_the_hysteresis() -> None:
    flickers = (0.7, 0.7, 0.7, 0.55, 0.7, 0.55, 0.7, 0.47)
    assert told(angry(), observed=series(*flickers)) == [(True, 1.0), (False, 3.5)]


def test_an_ended_alert_may_begin_again() -> None:
    again = (0.7, 0.7, 0.7, 0.1, 0.7, 0.7, 0.7)
    assert told(angry(), observed=series(*again)) == [(True, 1.0), (False, 1.5), (True, 3.0)]


def test_tracks_have_separate_alerts() -> None:
    watch = AlertWatch(alerts=[angry()])
    both = [(i * 0.5, track, 0.9 if track == 2 else 0.3) for i in range(4) for track in (1, 2)]
    (raised,) = watch.update(rows(*both), at(2))
    assert raised.track == 2
    assert raised.since == at(0)


def test_the_screen_is_the_mean_of_its_faces() -> None:
    screen = angry(of="screen")
    both = [(i * 0.5, track, 1.0 if track == 2 else 0.3) for i in range(4) for track in (1, 2)]
    calm = [(i * 0.5, track, 0.8 if track == 2 else 0.3) for i in range(4) for track in (1, 2)]
    assert told(screen, observed=rows(*calm)) == []
    assert told(screen, observed=rows(*both)) == [(True, 1.0)]


def test_an_alert_ends_with_its_track() -> None:
    watch = AlertWatch(alerts=[angry()])
    assert len(watch.update(series(0.9, 0.9, 0.9), at(2))) == 1
    assert watch.update(rows(), at(3)) == []
    (over,) = watch.update(rows(), at(4))
    assert (over.began, over.at) == (False, at(1))
    assert watch.close() == []


def test_a_hole_does_not_count_as_duration() -> None:
    assert told(angry(length="3s"), observed=rows((0, 1, 0.9), (4, 1, 0.9))) == []
    assert told(angry(), observed=rows((0, 1, 0.9), (1, 1, 0.9), (9, 1, 0.9))) == [
        (True, 1.0),
        (False, 1.0),
    ]


def test_segments_one_by_one_give_the_same_alerts_as_all_at_once() -> None:
    values = np.random.default_rng(1).uniform(0.3, 1.0, 200)
    alerts = [angry(0.5), angry(0.7, "2s", "screen")]
    whole = AlertWatch(alerts=alerts).update(series(*values), at(100))
    parts, watch = list[Raised](), AlertWatch(alerts=alerts)
    for i in range(0, 200, 7):
        part = values[i : i + 7]
        parts += watch.update(series(*part, start=i * 0.5), at((i + len(part)) * 0.5))
    assert len(whole) > 5
    assert parts == whole


def test_closing_ends_raised_alerts() -> None:
    watch = AlertWatch(alerts=[angry()])
    watch.update(series(0.9, 0.9, 0.9), at(1.5))
    assert [each.began for each in watch.close()] == [False]


def test_network_without_the_emotion_raises_nothing() -> None:
    observed = series(0.9, 0.9, 0.9)
    observed.smoothed[:, ANGER] = np.nan
    assert told(angry(), observed=observed) == []


def test_its_summary_is_one_line() -> None:
    (raised,) = AlertWatch(alerts=[angry()]).update(series(0.9, 0.9, 0.9), at(1))
    assert raised.summary() == "anger of track 1 is above 0.6 since 20:00:00 UTC (0.90 now)"


def test_the_threshold_itself_counts() -> None:
    assert told(angry(0.5), observed=series(0.5, 0.5, 0.5)) == [(True, 1.0)]


@pytest.mark.parametrize(("hole_s", "lasts"), [(2.0, True), (2.001, False)])
def test_a_gap_of_two_seconds_is_bridged_and_a_longer_one_not(hole_s: float, lasts: bool) -> None:
    found = told(angry(), observed=rows((0, 1, 0.9), (hole_s, 1, 0.9)), until=hole_s)
    assert found == ([(True, hole_s)] if lasts else [])
    watch = AlertWatch(alerts=[angry()])
    assert len(watch.update(series(0.9, 0.9, 0.9), at(1 + hole_s))) == (1 if lasts else 2)


def test_duration_before_a_hole_does_not_count_after_it() -> None:
    watch = AlertWatch(alerts=[angry()])
    assert watch.update(series(0.9, 0.9), at(0.5)) == []
    assert watch.update(rows(), at(3)) == []
    assert watch.update(series(0.9, start=3.0), at(3)) == []


def test_several_alerts_are_raised_in_order_of_time_independently() -> None:
    late, soon = angry(0.5, "2s"), angry(0.8, "0.5s")
    watch = AlertWatch(alerts=[late, soon])
    found = watch.update(series(0.9, 0.9, 0.9, 0.9, 0.9, 0.6), at(2.5))
    assert [(each.alert, each.began, each.since, each.at) for each in found] == [
        (soon, True, at(0), at(0.5)),
        (late, True, at(0), at(2)),
        (soon, False, at(0), at(2.5)),
    ]
    assert found[-1].value == pytest.approx(0.6)


def test_durations_are_parsed_and_omitted_values_have_defaults() -> None:
    assert angry(length=" 1.5 m ").length == timedelta(seconds=90)
    assert Alert(emotion="anger", for_="1m") == angry(0.7, length="1m")
    alert = Alert(emotion="anger")
    assert (alert.above, alert.length, alert.of) == (0.7, timedelta(seconds=3), "track")


@pytest.mark.parametrize(
    ("emotion", "above"),
    [("sadness", 0.6), ("happiness", 0.8), ("disgust", 0.3), ("fear", 0.3), ("contempt", 0.3)],
)
def test_default_thresholds_are_the_measured_ones(emotion: str, above: float) -> None:
    assert Alert.model_validate({"emotion": emotion}).above == above
    assert Alert.model_validate({"emotion": emotion, "above": 0.5}).above == 0.5
    assert "above" not in Alert.model_json_schema()["required"]  # a form may leave it empty


def test_the_summary_of_the_end_is_one_line_too() -> None:
    watch = AlertWatch(alerts=[angry(of="screen")])
    watch.update(series(0.9, 0.9, 0.9), at(1))
    (over,) = watch.close()
    assert over.summary() == "anger of the screen is over, since 20:00:01 UTC"


@pytest.mark.parametrize(
    "wrong",
    [
        {"emotion": "envy"},
        {"emotion": "anger", "above": 1.5},
        {"emotion": "anger", "for": "soon"},
        {"emotion": "anger", "of": "studio"},
        {"emotion": "anger", "colour": "red"},
    ],
    ids=lambda wrong: str(list(wrong.items())[-1]),
)
def test_invalid_alert_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Alert.model_validate(wrong)
