"""What is new in a playlist, whatever the source's clock does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.capture.listing import Listing, name_of
from flows.capture.playlist import Entry, parse_playlist
from flows.capture.recording import Recording

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path, channel="demo", broadcast=1)


def entries(first: int, last: int, *, wrong_from: int = 1000) -> tuple[Entry, ...]:
    """Segments of 2 s, dated 40 s too early from one on."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, last + 1):
        date = NOON + timedelta(seconds=2 * n - (40 if n >= wrong_from else 0))
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}", "#EXTINF:2,", f"{n}.ts"]
    return parse_playlist("\n".join(lines), "http://example.com/live.m3u8").entries


def look(listing: Listing, listed: tuple[Entry, ...]) -> list[str]:
    new = listing.find_new(listed)
    if new:
        listing.advance(listed, new)
    return [name_of(entry) for entry in new]


def test_a_clock_that_goes_back_makes_nothing_old_new(recording: Recording) -> None:
    listing = Listing(recording)
    assert look(listing, entries(70, 99)) == ["/99.ts@0"]
    for last in (100, 101, 102):
        assert look(listing, entries(last - 29, last, wrong_from=100)) == [f"/{last}.ts@0"]


def test_nor_after_a_run_that_another_goes_on_from(recording: Recording) -> None:
    before = Listing(recording)
    look(before, entries(70, 99))
    listing = Listing(recording)
    listing._position = before._position
    assert listing._position is not None
    listing._position.seen.clear()
    listing._position.seen.append("/99.ts@0")
    for last in (100, 101, 102):
        assert look(listing, entries(last - 29, last, wrong_from=101)) == [f"/{last}.ts@0"]
