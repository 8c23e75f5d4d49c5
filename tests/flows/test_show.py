"""The parameters of a watch: valid values, and errors."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.errors import UsageError
from flows.show import make_show, parse_duration, parse_since, parse_time, parse_until, slug_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("45m", 2700),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        (" 1h 5s ", 3605),
    ],
)
def test_valid_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "h", "-5m", "5 minutes", "nan", "0s", "8d"])
def test_invalid_duration_is_a_one_line_error(text: str) -> None:
    with pytest.raises(UsageError, match="duration") as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-22T20:00:00+01:00", datetime(2026, 11, 22, 19, tzinfo=UTC)),
        ("2026-11-22T20:00:00Z", datetime(2026, 11, 22, 20, tzinfo=UTC)),
    ],
)
def test_times_are_converted_to_utc(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text",
    ["yesterday", "", "2026-11-22T20:00 Europe/Nowhere", "2026-11-22T20:00+25:00", "2026-02-30",
     "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"],
)  # fmt: skip
def test_invalid_time_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="write it as"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-02T00:00:00Z", "9998-12-31T23:59:59Z"])
def test_extreme_time_is_a_one_line_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"is out of range: years 1800 to 9000$"):
        parse_since(text)


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        ("https://www.youtube.com/@NASA/live", "youtube-nasa-live"),
        ("https://cdn.example.org/tv/live.m3u8", "cdn-example-tv-live"),
        ("http://127.0.0.1:8099/live.m3u8", "127-0-0-1-live"),
        ("https://example.com/" + "x" * 200, "example-" + "x" * 55),
        ("https://example.com/%E2%9C%93", "example-e2-9c-93"),
        ("http://[::1/live", "channel"),
        ("http://[x]/live", "channel"),
    ],
)
def test_channel_is_named_after_its_url(url: str, slug: str) -> None:
    assert slug_of(url) == slug
    assert make_show(url=url).slug == slug


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "Evening News"}, "name: use lower-case letters"),
        ({"name": "../../etc"}, "name: use lower-case letters"),
        ({"duration": "soon"}, "duration: write it as 30s"),
        ({"duration": "0s"}, "out of range"),
        ({"analysed_fps": 0}, "analysed_fps: .*greater than 0"),
        ({"analysed_fps": 1000}, "analysed_fps: .*less than or equal to 60"),
        ({"colour": "blue"}, "colour"),
        ({"detector": "yolo"}, "detector"),
        ({"alerts": [{"emotion": "anger"}] * 21}, "alerts: .*at most 20"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_parameter_is_named_in_one_line(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        make_show(**({"url": "https://example.com/live"} | wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ago"),
    [("2h", timedelta(hours=2)), ("0s", timedelta(0)), ("1d12h", timedelta(days=1.5))],
)
def test_a_time_can_be_given_as_how_long_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    assert before <= parse_since(text) + ago <= datetime.now(UTC)
    assert before <= parse_until(text) + ago <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", None])
def test_a_range_without_an_end_ends_now(text: str | None) -> None:
    before = datetime.now(UTC)
    assert before <= parse_until(text) <= datetime.now(UTC)
    assert parse_until("2026-11-22T20:00:00+01:00") == datetime(2026, 11, 22, 19, tzinfo=UTC)
