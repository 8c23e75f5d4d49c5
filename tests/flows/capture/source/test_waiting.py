"""Waiting for a show that is not on air yet; no waiting if it will not come."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.capture.live_stream import live_stream
from benchmarks.origin.site import Announced, ShowSite, ShowSiteIE
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import CaptureError, NoStream, NotLive, ShowMissed, SourceUnreachable
from flows.capture.source import waiting
from flows.capture.source.resolve import resolve
from flows.capture.source.waiting import Waiting, pause_s, wait_for_show
from flows.capture.stream import Stream
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MIN_PAUSE_S", 0.01)


@pytest.fixture
def wait(policy: AddressPolicy) -> Callable[..., tuple[Stream, list[Waiting]]]:
    def run(
        url: str, *, minutes: float = 10.0, was_on_air: bool = False
    ) -> tuple[Stream, list[Waiting]]:
        told: list[Waiting] = []
        stream = wait_for_show(
            url,
            lambda: resolve(url, policy=policy, extractors=[ShowSiteIE]),
            give_up_after=minutes * MINUTE,
            on_waiting=told.append,
            pause=lambda seconds: None,
            was_on_air=was_on_air,
        )
        return stream, told

    return run


def test_a_show_is_waited_for_whatever_its_site_reports_before(wait) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + MINUTE
    with ShowSite(
        Announced(status="offline"),
        Announced(status="is_upcoming", starts_at=soon),
        Announced(http_status=503),
        Announced(status="is_upcoming", starts_at=soon),
        Announced(status="is_live", playlist="http://127.0.0.1/live.m3u8"),
    ) as site:
        stream, told = wait(site.url)
        assert site.looks == 5
    assert (stream.source_id, stream.live_status) == ("show", "is_live")
    assert [(each.starts_at, "HTTP status 503" in each.why) for each in told] == [
        (None, False),
        (soon, False),
        (soon, True),
        (soon, False),
    ]
    assert f"{soon:%Y-%m-%d %H:%M}" in told[1].why


@pytest.mark.parametrize("status", [404, 503])
def test_a_missing_or_failing_playlist_is_waited_for(status: int, origin: LiveOrigin, wait) -> None:
    origin.inject(Fault(on="playlist", status=status, times=4))
    stream, told = wait(origin.url)
    assert stream.url == origin.url
    assert str(status) in told[0].why


@pytest.mark.parametrize(
    ("page", "error"),
    [
        pytest.param(Announced(status="was_live"), NotLive, id="over"),
        pytest.param(Announced(status="post_live"), NotLive, id="just over"),
        pytest.param(Announced(status="is_live"), NoStream, id="no stream"),
        pytest.param(Announced(http_status=404), SourceUnreachable, id="no such page"),
        pytest.param(Announced(http_status=500), SourceUnreachable, id="broken"),
    ],
)
def test_permanent_errors_are_raised_immediately(
    wait, page: Announced, error: type[CaptureError]
) -> None:
    with ShowSite(page) as site, pytest.raises(error) as caught:
        wait(site.url)
    assert not isinstance(caught.value, ShowMissed)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Announced(status="was_live"), id="over"),
        pytest.param(Announced(status="is_live"), id="no stream"),
        pytest.param(Announced(http_status=404), id="no such page"),
        pytest.param(Announced(http_status=500), id="broken"),
    ],
)
@pytest.mark.parametrize("minutes", [0, 10])
def test_a_restart_waits_for_a_show_that_its_site_briefly_reports_as_over(
    wait, page: Announced, minutes: int
) -> None:
    """A process that is started again knows no less than the one that died."""
    on_air = Announced(status="is_live", playlist="http://127.0.0.1/live.m3u8")
    with ShowSite(page, page, on_air) as site:
        stream, _ = wait(site.url, minutes=minutes, was_on_air=True)
    assert stream.live_status == "is_live"


def test_a_show_that_its_site_keeps_reporting_as_over_has_ended(
    wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "DOUBTED_S", 0.05)
    with ShowSite(Announced(status="was_live")) as site, pytest.raises(NotLive) as caught:
        wait(site.url, was_on_air=True)
    assert caught.value.final
    assert site.looks > 1


def test_a_show_that_does_not_start_is_missed(policy: AddressPolicy) -> None:
    says = r"not on air now; waited until \d\d:\d\d:\d\d UTC$"
    with ShowSite(Announced()) as site, pytest.raises(ShowMissed, match=says) as caught:
        wait_for_show(
            site.url,
            lambda: resolve(site.url, policy=policy, extractors=[ShowSiteIE]),
            give_up_after=timedelta(seconds=0.2),
            on_waiting=lambda known: None,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("minutes", [0, 5], ids=["no patience", "announced for later"])
def test_a_show_that_starts_too_late_is_not_waited_for(wait, minutes: int) -> None:
    later = datetime.now(UTC) + 10 * MINUTE
    with (
        ShowSite(Announced(status="is_upcoming", starts_at=later)) as site,
        pytest.raises(ShowMissed, match="has not begun") as caught,
    ):
        wait(site.url, minutes=minutes)
    assert site.looks == 1
    assert caught.value.starts_at is not None
    assert ("give_up_after" in str(caught.value)) == bool(minutes)


@pytest.mark.parametrize(
    ("expected_min", "give_up_min", "pause"),
    [
        (60, 90, 300.0),
        (4, 30, 120.0),
        (0.1, 30, 5.0),
        (0, 30, 5.0),
        (-4, 30, 30.0),
        (-20, 30, 60.0),
        (-20, 0.5, 30.0),
        (-20, -1, 0.0),
    ],
)
def test_polling_is_more_frequent_near_the_start(
    monkeypatch: pytest.MonkeyPatch, expected_min: float, give_up_min: float, pause: float
) -> None:
    monkeypatch.setattr(waiting, "MIN_PAUSE_S", 5.0)
    found = pause_s(
        NOON, expected=NOON + expected_min * MINUTE, give_up_at=NOON + give_up_min * MINUTE
    )
    assert found == pause


@pytest.mark.parametrize(("name", "wait_s"), [("live.m3u8", 0.01), ("show", 60.0)])
def test_a_playlist_is_waited_for_by_short_pauses_however_late_the_show_is(
    name: str, wait_s: float
) -> None:
    url = f"http://tv.example/{name}"
    late = NotLive("empty", starts_at=datetime.now(UTC) - 60 * MINUTE)
    answers = iter([late, late, None])
    pauses: list[float] = []

    def find() -> Stream:
        if (error := next(answers)) is not None:
            raise error
        return live_stream(url, url)

    stream = wait_for_show(
        url, find, give_up_after=10 * MINUTE, on_waiting=lambda _: None, pause=pauses.append
    )
    assert pauses == [wait_s, wait_s]
    assert stream.off_air_at
