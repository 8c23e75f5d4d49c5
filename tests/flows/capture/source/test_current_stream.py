"""A stream is found again when its address expires, is refused or is gone, and nothing is lost."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.origin.site import Announced, ShowSite, ShowSiteIE
from flows.capture.net.address import AddressPolicy
from flows.capture.recorded.recording import MIN_GAP
from flows.capture.segment import Gap, NotLive, Segment
from flows.capture.source import current_stream
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault

PATIENCE_S = 60.0
STALL_S = {"hls": 1.0, "ffmpeg": 4.0}
"""What ffmpeg takes to start on a busy machine is no stall."""

MakeCapture = Callable[..., Capture]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.05)
    monkeypatch.setattr(recorder, "_STEPS", 0.0)
    monkeypatch.setattr(recorder, "_MAX_BACKOFF_S", 0.2)
    monkeypatch.setattr(current_stream, "_RENEW_AGE_S", 0.3)


@pytest.fixture(params=["hls", "ffmpeg"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_capture(tmp_path: Path, policy: AddressPolicy, stream_of, engine: str) -> MakeCapture:
    def make(site: ShowSite, origin: LiveOrigin, **options: object) -> Capture:
        values = {
            "directory": tmp_path / "rec",
            "channel": "demo",
            "broadcast": 1,
            "policy": policy,
            "segment_s": 0.5,
            "stall_s": 4.0,
            "stream": stream_of(origin),
            "engine": engine,
            "extractors": [ShowSiteIE],
        }
        return Capture(site.url, **(values | options))

    return make


def on_air(origin: LiveOrigin) -> Announced:
    return Announced(status="is_live", playlist=origin.url)


def take(capture: Capture, n: int) -> list[Segment | Gap]:
    """Take events until `n` of them are segments."""
    events: list[Segment | Gap] = []
    while sum(isinstance(event, Segment) for event in events) < n:
        event = capture.get(PATIENCE_S)
        assert event is not None, f"nothing more comes: {capture.last_error}"
        events.append(event)
    return events


def check_nothing_is_lost(events: list[Segment | Gap]) -> None:
    for before, after in pairwise(events):
        assert isinstance(after, Segment), after
        assert abs(after.start - before.end) < MIN_GAP
    assert [event.sequence for event in events] == list(range(len(events)))


def test_an_address_is_renewed_before_it_expires(
    make_origin, make_capture: MakeCapture, stream_of, until
) -> None:
    origin = make_origin(window=30)
    expiring = replace(stream_of(origin), expires_at=datetime.now(UTC) + timedelta(minutes=15))
    with (
        ShowSite(on_air(origin)) as site,
        make_capture(site, origin, stream=expiring, stall_s=PATIENCE_S) as capture,
    ):
        events = take(capture, 5)
        until(lambda: capture.restarts, what="the next run")
        assert (site.looks, capture.restarts) == (1, 1)
    check_nothing_is_lost(events)


def test_a_refusing_source_is_resolved_again(make_origin, make_capture: MakeCapture) -> None:
    origin = make_origin(window=30)
    with (
        ShowSite(on_air(origin), on_look=lambda number: origin.heal()) as site,
        make_capture(site, origin) as capture,
    ):
        events = take(capture, 2)
        origin.inject(Fault(on="segment", status=403))
        while site.looks == 0:
            events += take(capture, 1)
        events += take(capture, 2)
        assert capture.last_error is not None
    check_nothing_is_lost(events)


def test_a_show_that_its_site_says_is_over_ends_the_capture(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    with (
        ShowSite(Announced(status="post_live")) as site,
        make_capture(site, origin, ended_after_s=0.3, away_s=PATIENCE_S) as capture,
    ):
        events = take(capture, 2)
        origin.end()
        events += list(capture)
        assert site.looks >= 1
    check_nothing_is_lost(events)
    assert capture.failure is None
    assert isinstance(capture.last_error, NotLive)


def test_a_show_that_is_off_air_temporarily_continues(
    make_origin, make_capture: MakeCapture, engine: str
) -> None:
    origin = make_origin(window=30)
    back = 3
    with (
        ShowSite(
            *[Announced(status="offline")] * back,
            on_air(origin),
            on_look=lambda number: origin.heal() if number == back else None,
        ) as site,
        make_capture(
            site, origin, ended_after_s=0.0, away_s=PATIENCE_S, stall_s=STALL_S[engine]
        ) as capture,
    ):
        events = take(capture, 2)
        origin.inject(Fault(on="playlist", status=404))
        while site.looks <= back:
            events += take(capture, 1)
        events += take(capture, 1)
    check_nothing_is_lost(events)


def test_a_show_that_stays_off_air_ends_the_capture(
    origin: LiveOrigin, make_capture: MakeCapture, engine: str
) -> None:
    with (
        ShowSite(Announced(status="offline")) as site,
        make_capture(
            site, origin, ended_after_s=0.0, away_s=0.5, stall_s=STALL_S[engine]
        ) as capture,
    ):
        events = take(capture, 2)
        origin.inject(Fault(on="playlist", status=404))
        events += list(capture)
    assert capture.failure is None
    assert isinstance(capture.last_error, NotLive)
    check_nothing_is_lost([event for event in events if isinstance(event, Segment)])


def test_an_encoder_that_ends_its_playlist_and_starts_again_later_is_waited_for(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    back = 4
    with (
        ShowSite(
            on_air(origin),
            on_look=lambda number: origin.resume() if number == back else None,
        ) as site,
        make_capture(site, origin, ended_after_s=0.0, away_s=PATIENCE_S) as capture,
    ):
        events = take(capture, 2)
        origin.end()
        while site.looks <= back:
            events += filter(None, [capture.get(0.05)])
        events += take(capture, 2)
    segments = [event for event in events if isinstance(event, Segment)]
    assert [event.sequence for event in segments] == list(range(len(segments)))
    assert capture.failure is None


def test_a_playlist_that_stays_ended_ends_the_capture(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    with (
        ShowSite(on_air(origin)) as site,
        make_capture(site, origin, ended_after_s=0.0, away_s=0.5) as capture,
    ):
        events = take(capture, 2)
        origin.end()
        events += list(capture)
    assert capture.failure is None
    assert isinstance(capture.last_error, NotLive)
    check_nothing_is_lost(events)


def test_a_show_that_ended_before_its_time_misses_nothing(
    origin: LiveOrigin, make_capture: MakeCapture, until
) -> None:
    with (
        ShowSite(on_air(origin)) as site,
        make_capture(site, origin, ended_after_s=0.0, away_s=3600.0) as capture,
    ):
        events = take(capture, 2)
        origin.end()
        looks = site.looks
        until(lambda: site.looks > looks, what="a look whether it is over")
        assert not capture.finished
        capture._plan._until = datetime.now(UTC)
        events += list(capture)
    assert isinstance(capture.last_error, NotLive)
    check_nothing_is_lost(events)
