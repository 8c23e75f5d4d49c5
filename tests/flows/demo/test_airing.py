"""Changes of a demo show while it is on air."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import av
import httpx
import pytest

from benchmarks.origin.scenarios import SCENARIOS
from flows.demo.channel import LiveOrigin
from flows.demo.errors import DemoError
from flows.demo.faults import Fault


@pytest.fixture
def origin(card: dict[str, Path], clock) -> Iterator[LiveOrigin]:
    """Two seconds of the show have passed; four segments of it are listed."""
    variants = {name: path for name, path in card.items() if name}
    show = LiveOrigin(card[""], variants=variants, started_at=clock(), window=4, clock=clock)
    clock.passed_s = 2.0
    with show:
        yield show


def get(origin: LiveOrigin, index: int) -> httpx.Response:
    return httpx.get(f"{origin.base_url}/segment-{index:06d}.ts")


def size_of(data: bytes, tmp_path: Path) -> tuple[int, int, int]:
    path = tmp_path / "piece.ts"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        return codec.width, codec.height, len(container.streams)


@pytest.mark.parametrize(
    ("variant", "size"), [("smaller", (128, 72, 2)), ("silent", (192, 108, 1))], ids=str
)
@pytest.mark.parametrize("told", [True, False])
def test_a_variant_begins_with_the_next_segment(
    origin: LiveOrigin, clock, tmp_path: Path, variant: str, size: tuple[int, int, int], told: bool
) -> None:
    origin.play(variant, discontinuity=told)
    clock.passed_s = 2.5
    assert size_of(get(origin, 3).content, tmp_path) == (192, 108, 2)
    assert size_of(get(origin, 4).content, tmp_path) == size
    assert ("#EXT-X-DISCONTINUITY\n" in origin.playlist()) == told
    origin.play()
    clock.passed_s = 3.0
    assert size_of(get(origin, 5).content, tmp_path) == (192, 108, 2)


def test_a_variant_must_exist_and_have_the_same_length(
    card: dict[str, Path], origin: LiveOrigin
) -> None:
    with pytest.raises(DemoError, match="no variant"):
        origin.play("larger")


def test_timestamps_and_dates_can_be_wrong(origin: LiveOrigin, clock) -> None:
    right = origin.bytes_of(4)
    origin.move_timestamps(10.0)
    origin.misdate(-40.0)
    clock.passed_s = 2.5
    assert origin.bytes_of(3) == origin.piece_at(3).path.read_bytes()
    assert origin.bytes_of(4) != right
    dates = re.findall(r"DATE-TIME:(\S+)", origin.playlist())
    assert dates[-2:] == [
        origin.start_of(3).isoformat(timespec="milliseconds"),
        (origin.start_of(4) - timedelta(seconds=40)).isoformat(timespec="milliseconds"),
    ]


def test_an_expired_address_is_refused_and_the_page_has_the_next(
    origin: LiveOrigin,
) -> None:
    old = origin.keyed_url
    assert httpx.get(old).status_code == 200
    origin.renew_addresses()
    segment = old.replace("live.m3u8", "segment-000003.ts")
    assert [httpx.get(url).status_code for url in (old, segment)] == [403, 403]
    found = httpx.get(origin.share_url, follow_redirects=True)
    assert (found.status_code, str(found.url)) == (200, origin.keyed_url)


def test_one_segment_can_be_damaged_for_all_clients(origin: LiveOrigin) -> None:
    origin.inject(Fault(on="segment", share=0.5, one_segment=True))
    whole = len(origin.bytes_of(2))
    lengths = [len(get(origin, index).content) for index in (2, 3, 2)]
    assert lengths == [round(whole / 2), len(origin.bytes_of(3)), round(whole / 2)]


def test_a_slow_body_is_completed_immediately_when_healed(origin: LiveOrigin) -> None:
    origin.inject(Fault(on="segment", over_s=3600.0))
    with httpx.stream("GET", f"{origin.base_url}/segment-000003.ts") as answer:
        origin.heal()
        assert answer.read() == origin.bytes_of(3)


def test_every_scenario_can_be_begun_and_ended(origin: LiveOrigin) -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        scenario.begin(origin)
        scenario.end(origin)
        origin.heal()
        origin.resume()
        origin.play()
        origin.reset_sequence()
    assert httpx.get(origin.url).status_code == 200
