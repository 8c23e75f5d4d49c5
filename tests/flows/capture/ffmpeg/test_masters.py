"""A playlist that is a master playlist, or lists fMP4, for a while, recorded with ffmpeg."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.origin.fragments import Fragments
from benchmarks.origin.packed import SoundApart
from flows.capture.ffmpeg import command
from flows.capture.net.address import AddressPolicy
from flows.capture.segment import Segment
from flows.capture.stream import Stream
from flows.capture.supervisor import recorder
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.packaging import Packaging
from flows.demo.server import Reply
from tests.flows.capture.conftest import Show

MS = timedelta(milliseconds=1)


class Variants(Packaging):
    """A master playlist of two equal variants, in turns."""

    def __init__(self, origin: LiveOrigin) -> None:
        self._origin, self._asked = origin, 0

    def playlist(self, text: str) -> str:
        self._asked += 1
        both = ["#EXT-X-STREAM-INF:BANDWIDTH=9000", f"{self._origin.base_url}/low/a.m3u8"]
        other = ["#EXT-X-STREAM-INF:BANDWIDTH=9000", "b.m3u8"]
        lines = [*both, *other] if self._asked % 2 else [*other, *both]
        return "\n".join(["#EXTM3U", *lines, ""])

    def other(self, path: str) -> Reply | None:
        if not path.endswith(("/a.m3u8", "/b.m3u8")):
            return None
        text = self._origin.playlist().replace("segment-", "/segment-")
        return Reply(body=text.encode())


MakeCapture = Callable[[Show], Capture]


@pytest.fixture
def capture_of(
    stream_of: Callable[[LiveOrigin], Stream], policy: AddressPolicy, tmp_path: Path
) -> Iterator[MakeCapture]:
    made: list[Capture] = []

    def make(origin: Show) -> Capture:
        capture = Capture(
            origin.url,
            directory=tmp_path / "rec",
            channel="demo",
            broadcast=1,
            policy=policy,
            stream=stream_of(origin),
            segment_s=0.5,
            engine="ffmpeg",
        )
        made.append(capture)
        return capture.__enter__()

    yield make
    for capture in made:
        capture.stop()


def take(capture: Capture, n: int) -> list[Segment]:
    events = [capture.get(60.0) for _ in range(n)]
    assert all(isinstance(event, Segment) for event in events), (events, capture.last_error)
    return events


@pytest.mark.parametrize(
    ("make", "at_first"),
    [
        pytest.param(SoundApart, True, id="a master at first, sound in a rendition"),
        pytest.param(Variants, False, id="variants in another order, one elsewhere"),
    ],
)
def test_a_playlist_may_turn_into_a_master_playlist_and_back(
    make: Callable[[LiveOrigin], Packaging], at_first: bool, origin: Show, capture_of: MakeCapture
) -> None:
    packed = [make(origin), None]
    first, second = packed if at_first else packed[::-1]
    origin.pack(first)
    capture = capture_of(origin)
    segments = take(capture, 1)
    for packaging in (second, first):
        origin.pack(packaging)
        origin.skip(1.5)
        segments += take(capture, 4)
    assert capture.restarts == 0
    assert all(a.end == b.start for a, b in pairwise(segments))
    # The source's dates, so that no loss hides behind a wrong one.
    starts = [origin.start_of(n) for n in range(origin.published)]
    assert all(min(abs(s.start - each) for each in starts) < 2 * MS for s in segments)
    assert not any(segment.start_is_estimated for segment in segments)


def test_sound_that_is_away_for_longer_than_ffmpeg_expects(
    origin: Show, capture_of: MakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then ffmpeg takes its next timestamp for a jump of the source. It expects 10 s, here 1 s."""
    options = (*command._PLAYLIST.options, ("dts_delta_threshold", 1))
    monkeypatch.setattr(command, "_PLAYLIST", replace(command._PLAYLIST, options=options))
    capture = capture_of(origin)
    segments = take(capture, 1)
    for packaging, n in ((SoundApart(origin), 5), (None, 4)):
        origin.pack(packaging)
        segments += take(capture, n)
    assert capture.restarts == 1
    assert all(a.end == b.start for a, b in pairwise(segments))
    starts = [origin.start_of(n) for n in range(origin.published)]
    assert all(min(abs(s.start - each) for each in starts) < 2 * MS for s in segments)


def test_fmp4_among_mpeg_ts_is_recorded_by_a_run_of_its_own(
    origin: Show, capture_of: MakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.1)
    capture = capture_of(origin)
    segments = take(capture, 1)
    packaging = Fragments(origin)
    origin.pack(packaging)
    origin.skip(1.0)
    segments += take(capture, 2)
    packaging.end()
    changed = origin.start_of(origin.published)
    origin.skip(1.0)
    while segments[-1].end <= changed:
        segments += take(capture, 1)
    assert capture.restarts == 2
    assert all(a.end == b.start for a, b in pairwise(segments))
    assert not any(segment.start_is_estimated for segment in segments)
