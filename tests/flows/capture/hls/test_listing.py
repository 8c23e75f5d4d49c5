"""What is new in a playlist, whatever the source's clock does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.capture.hls.aligning import name_of
from flows.capture.hls.listing import Listing
from flows.capture.playlists.playlist import Entry, parse_playlist
from flows.capture.recorded.media import Extent
from flows.capture.recorded.recording import Recording

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path, channel="demo", broadcast=1)


def entries(first: int, last: int, *, wrong_from: int = 1000, by_s: int = 40) -> tuple[Entry, ...]:
    """Segments of 2 s, dated too early from one on."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, last + 1):
        date = NOON + timedelta(seconds=2 * n - (by_s if n >= wrong_from else 0))
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}", "#EXTINF:2,", f"{n}.ts"]
    return parse_playlist("\n".join(lines), "http://example.com/live.m3u8").entries


NUMBERED_ANEW = tuple(replace(each, sequence=each.sequence - 70) for each in entries(71, 100))


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


def record(recording: Recording, listing: Listing, entry: Entry) -> None:
    """Record an entry, and write down where it was."""
    path = recording.directory / f"{recording.new_run(NOON)}-{entry.sequence:06d}.ts"
    path.touch()
    extent = Extent(first=0, end=180_000, interval=3600, longest=3600, width_px=1, height_px=1)
    recording.add(path, extent, start=entry.date, end=entry.end, estimated=False)
    listing.recorded(entry)
    listing.save()


def go_on(recording: Recording) -> Listing:
    """What the next process reads."""
    return Listing(Recording(recording.directory, channel="demo", broadcast=1))


def test_nor_after_a_run_that_another_goes_on_from(recording: Recording) -> None:
    before, listed = Listing(recording), entries(70, 99)
    look(before, listed)
    record(recording, before, listed[-1])
    listing = go_on(recording)
    assert listing.sequence == 99
    for last in (100, 101, 102):
        assert look(listing, entries(last - 29, last, wrong_from=101)) == [f"/{last}.ts@0"]


def test_nor_where_more_is_listed_than_the_next_run_is_told(recording: Recording) -> None:
    before, listed = Listing(recording), entries(0, 119)
    look(before, listed)
    record(recording, before, listed[-1])
    listing = go_on(recording)
    for last in (120, 121, 122):
        wrong = entries(last - 119, last, wrong_from=121, by_s=220)
        assert look(listing, wrong) == [f"/{last}.ts@0"]


def test_what_was_queued_and_not_recorded_is_new_to_the_next_run(recording: Recording) -> None:
    before = Listing(recording)
    look(before, entries(70, 99))
    new = entries(70, 103)
    assert look(before, new) == [f"/{n}.ts@0" for n in range(100, 104)]
    for entry in new[-4:-2]:
        record(recording, before, entry)
    assert look(go_on(recording), new) == ["/102.ts@0", "/103.ts@0"]
    # The same under numbers that began anew: names and dates tell.
    again = tuple(replace(entry, sequence=entry.sequence - 70) for entry in new)
    assert look(go_on(recording), again) == ["/102.ts@0", "/103.ts@0"]


def test_a_position_that_is_not_that_of_the_newest_segment_is_not_believed(
    recording: Recording,
) -> None:
    before, listed = Listing(recording), entries(70, 99)
    look(before, listed)
    record(recording, before, listed[-1])
    later = entries(70, 100)[-1]
    path = recording.directory / f"{recording.new_run(NOON)}-000000.ts"
    path.touch()
    extent = Extent(first=0, end=180_000, interval=3600, longest=3600, width_px=1, height_px=1)
    recording.add(path, extent, start=later.date, end=later.end, estimated=False)
    listing = go_on(recording)
    assert listing.sequence is None
    # By dates then.
    assert look(listing, entries(72, 102)) == ["/101.ts@0", "/102.ts@0"]


def test_numbers_that_begin_anew_while_nobody_looks_hide_nothing(recording: Recording) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 99))
    anew = tuple(replace(entry, sequence=entry.sequence - 100) for entry in entries(100, 250))
    # The first 100 have numbers that were listed, of other segments.
    assert look(listing, anew) == [f"/{n}.ts@0" for n in range(100, 251)]


def test_an_old_copy_of_the_playlist_holds_nothing_new(recording: Recording) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 99))
    assert look(listing, entries(66, 95)) == []
    assert look(listing, entries(67, 96)) == []
    assert look(listing, entries(71, 100)) == ["/100.ts@0"]


@pytest.mark.parametrize(
    ("listed", "numbered", "first_new", "follows"),
    [
        (entries(99, 110), True, 100, True),
        (entries(100, 110), True, 100, True),
        (entries(101, 111), True, 101, False),
        (entries(100, 110), False, 100, False),
        (NUMBERED_ANEW, True, 30, True),
    ],
    ids=["overlaps", "next number", "one missed", "no numbers", "numbered anew"],
)
def test_new_segments_follow_where_nothing_is_between(
    recording: Recording,
    listed: tuple[Entry, ...],
    numbered: bool,
    first_new: int,
    follows: bool,
) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 99))
    new = listing.find_new(listed, numbered=numbered)
    assert [entry.sequence for entry in new] == list(range(first_new, listed[-1].sequence + 1))
    assert listing.follows is follows
    assert tuple(entry for _, entry in listing.places()) == listed


def test_first_of_a_playlist_without_numbers_is_its_newest(recording: Recording) -> None:
    new = Listing(recording).find_new(entries(70, 99), numbered=False)
    assert [entry.sequence for entry in new] == [99]
