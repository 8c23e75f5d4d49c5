"""Detection of new segments in a playlist, also with wrong clocks."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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


def entries(
    first: int,
    last: int,
    *,
    wrong_from: int = 1000,
    by_s: float = 40,
    dated: bool = True,
    name: str = "{}.ts",
    names: int = 1000,
) -> tuple[Entry, ...]:
    """Segments of 2 s, with dates too early from one on; names repeat."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, last + 1):
        date = NOON + timedelta(seconds=2 * n - (by_s if n >= wrong_from else 0))
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}"] if dated else []
        lines += ["#EXTINF:2,", name.format(n % names)]
    return parse_playlist("\n".join(lines), "http://example.com/live.m3u8").entries


NUMBERED_ANEW = tuple(replace(each, sequence=each.sequence - 70) for each in entries(71, 100))


def look(listing: Listing, listed: tuple[Entry, ...]) -> list[str]:
    new = listing.find_new(listed)
    if new:
        listing.advance(listed, new)
    return [name_of(entry) for entry in new]


def test_old_segments_are_not_new_when_the_clock_goes_back(recording: Recording) -> None:
    listing = Listing(recording)
    assert look(listing, entries(70, 99)) == ["/99.ts@0"]
    for last in (100, 101, 102):
        assert look(listing, entries(last - 29, last, wrong_from=100)) == [f"/{last}.ts@0"]


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize(("off_air_s", "n"), [(None, 1), (1.0, 1), (5.0, 3), (60.0, 6)])
def test_a_show_that_was_waited_for_is_recorded_from_its_beginning(
    recording: Recording, off_air_s: float | None, n: int, dated: bool
) -> None:
    off_air_at = 0.0 if off_air_s is None else time.monotonic() - off_air_s
    listing = Listing(recording, off_air_at=off_air_at)
    listed = entries(0, 5, dated=dated)
    assert look(listing, listed) == [name_of(entry) for entry in listed[6 - n :]]
    assert look(listing, entries(1, 6, dated=dated)) == ["/6.ts@0"]


@pytest.mark.parametrize("n_new", [0, 1, 3, 30])
def test_segments_of_another_packager_are_known_by_their_dates(
    recording: Recording, n_new: int
) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 98))
    look(listing, entries(70, 99))
    others = entries(70 + n_new, 99 + n_new, name="other-{}.ts")
    others = tuple(replace(each, sequence=each.sequence + 500) for each in others)
    assert look(listing, others) == [f"/other-{100 + n}.ts@0" for n in range(n_new)]


def record(recording: Recording, listing: Listing, entry: Entry) -> None:
    """Record an entry, and store its position."""
    path = recording.directory / f"{recording.new_run(NOON)}-{entry.sequence:06d}.ts"
    path.touch()
    extent = Extent(first=0, end=180_000, interval=3600, longest=3600, width_px=1, height_px=1)
    start = entry.date or NOON + timedelta(seconds=2 * entry.sequence)
    end = start + timedelta(seconds=2)
    recording.add(path, extent, start=start, end=end, estimated=entry.date is None)
    listing.recorded(entry)
    listing.save()


def go_on(recording: Recording) -> Listing:
    """The state read by the next process."""
    return Listing(Recording(recording.directory, channel="demo", broadcast=1))


def test_nor_in_the_next_run(recording: Recording) -> None:
    before, listed = Listing(recording), entries(70, 99)
    look(before, listed)
    record(recording, before, listed[-1])
    listing = go_on(recording)
    assert listing.sequence == 99
    for last in (100, 101, 102):
        assert look(listing, entries(last - 29, last, wrong_from=101)) == [f"/{last}.ts@0"]


def test_nor_if_more_is_listed_than_the_next_run_knows(recording: Recording) -> None:
    before, listed = Listing(recording), entries(0, 119)
    look(before, listed)
    record(recording, before, listed[-1])
    listing = go_on(recording)
    for last in (120, 121, 122):
        wrong = entries(last - 119, last, wrong_from=121, by_s=220)
        assert look(listing, wrong) == [f"/{last}.ts@0"]


def test_queued_segments_are_new_to_the_next_run(recording: Recording) -> None:
    before = Listing(recording)
    look(before, entries(70, 99))
    new = entries(70, 103)
    assert look(before, new) == [f"/{n}.ts@0" for n in range(100, 104)]
    for entry in new[-4:-2]:
        record(recording, before, entry)
    assert look(go_on(recording), new) == ["/102.ts@0", "/103.ts@0"]
    # The same with reset numbers: names and dates identify segments.
    again = tuple(replace(entry, sequence=entry.sequence - 70) for entry in new)
    assert look(go_on(recording), again) == ["/102.ts@0", "/103.ts@0"]


def test_a_position_of_another_segment_is_not_used(
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
    # Dates are used instead.
    assert look(listing, entries(72, 102)) == ["/101.ts@0", "/102.ts@0"]


def test_numbers_reset_between_polls_hide_no_segment(recording: Recording) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 99))
    anew = tuple(replace(entry, sequence=entry.sequence - 100) for entry in entries(100, 250))
    # The first 100 have numbers that other segments had before.
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
def test_new_segments_are_contiguous_if_nothing_is_between(
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


def test_first_segment_of_a_playlist_without_numbers_is_its_newest(recording: Recording) -> None:
    new = Listing(recording).find_new(entries(70, 99), numbered=False)
    assert [entry.sequence for entry in new] == [99]


def numbers(new: tuple[Entry, ...]) -> list[int]:
    return [entry.sequence for entry in new]


def after(recording: Recording, listed: tuple[Entry, ...]) -> Listing:
    """The state read by the next process after the newest of these is recorded."""
    before = Listing(recording)
    look(before, listed)
    record(recording, before, listed[-1])
    return go_on(recording)


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("newest", range(25, 35))
def test_reused_names_hide_no_segment_from_the_next_run(
    recording: Recording, newest: int, dated: bool
) -> None:
    """Every ten segments, like ffmpeg's -hls_wrap; three are listed."""
    before = Listing(recording)
    for n in range(3, newest + 1):
        listed = entries(n - 2, n, names=10, dated=dated)
        assert look(before, listed) == [f"/{n % 10}.ts@0"]
    record(recording, before, listed[-1])
    listing = go_on(recording)
    for n in range(newest + 1, newest + 12):
        assert look(listing, entries(n - 2, n, names=10, dated=dated)) == [f"/{n % 10}.ts@0"]


def test_without_a_position_later_segments_are_new(recording: Recording) -> None:
    """Recorded by another engine: no position, and the source's date."""
    first = entries(90, 90)[0]
    record(recording, Listing(recording), first)
    (recording.directory / "position.json").unlink()
    assert numbers(go_on(recording).find_new(entries(85, 92))) == [91, 92]
    assert numbers(go_on(recording).find_new(entries(85, 90))) == []
    assert numbers(go_on(recording).find_new(entries(85, 90, wrong_from=0, by_s=-0.1))) == []
    assert numbers(go_on(recording).find_new(entries(85, 90, wrong_from=0, by_s=-0.11))) == [90]
    assert numbers(go_on(recording).find_new(entries(85, 90, dated=False))) == [90]


def test_with_an_estimated_date_only_the_newest_segment_is_new(recording: Recording) -> None:
    path = recording.directory / f"{recording.new_run(NOON)}-000000.ts"
    path.touch()
    extent = Extent(first=0, end=180_000, interval=3600, longest=3600, width_px=1, height_px=1)
    recording.add(path, extent, start=NOON, end=NOON + timedelta(seconds=2), estimated=True)
    assert numbers(Listing(recording).find_new(entries(85, 92))) == [92]


def test_old_segments_are_not_new_when_the_clock_went_back_before_a_restart(
    recording: Recording,
) -> None:
    """All names are signed again; only the newest segment shows that the dates are reliable."""
    listing = after(recording, entries(70, 99, wrong_from=99, by_s=41))
    again = entries(75, 104, wrong_from=99, by_s=41, name="signed-{}.ts")
    assert numbers(listing.find_new(again)) == [100, 101, 102, 103, 104]
    listing.advance(again, again[-5:])
    assert numbers(listing.find_new(entries(76, 105, wrong_from=99, by_s=41))) == [105]


def test_old_segments_are_not_new_when_one_is_left_out(
    recording: Recording,
) -> None:
    """Names and dates disagree in part; listed segments are identified by their names."""
    listing = Listing(recording)
    look(listing, entries(70, 99))
    listed = tuple(
        entry for entry in entries(80, 104, wrong_from=90, by_s=-40) if entry.sequence != 95
    )
    assert numbers(listing.find_new(listed)) == [100, 101, 102, 103, 104]


def test_reset_numbers_without_dates_are_recognised_when_the_playlist_grows(
    recording: Recording,
) -> None:
    """The same names again: it may be an old copy, until something is behind it."""
    listing = Listing(recording)
    for first, last in ((0, 5), (5, 9), (10, 14)):
        look(listing, entries(first, last, dated=False))
    assert numbers(listing.find_new(entries(0, 3, dated=False))) == []
    assert look(listing, entries(1, 4, dated=False)) == ["/4.ts@0"]
    assert look(listing, entries(2, 5, dated=False)) == ["/5.ts@0"]


def test_growing_old_copies_have_no_new_segments(recording: Recording) -> None:
    listing = Listing(recording)
    for first, last in ((0, 5), (5, 9), (10, 14)):
        look(listing, entries(first, last))
    for first in range(4):
        assert look(listing, entries(first, first + 3)) == []
    assert look(listing, entries(12, 16)) == ["/15.ts@0", "/16.ts@0"]


@pytest.mark.parametrize("first", [15, 13], ids=["next number", "overlaps"])
def test_a_newer_playlist_between_two_old_copies_is_not_their_growth(
    recording: Recording, first: int
) -> None:
    listing = Listing(recording)
    for begin, last in ((0, 5), (5, 9), (10, 14)):
        look(listing, entries(begin, last, dated=False))
    assert look(listing, entries(0, 3, dated=False)) == []
    assert numbers(listing.find_new(entries(first, 19, dated=False))) == [15, 16, 17, 18, 19]
    assert look(listing, entries(0, 4, dated=False)) == []


def test_reset_numbers_with_new_names_are_new_immediately(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 99, dated=False))
    anew = entries(0, 5, dated=False, name="anew-{}.ts")
    assert look(listing, anew) == [f"/anew-{n}.ts@0" for n in range(6)]
    assert "the source's segment numbers started over, from 0" in caplog.text
    assert listing.sequence == 5
    assert look(listing, entries(1, 6, dated=False, name="anew-{}.ts")) == ["/anew-6.ts@0"]


def test_reset_numbers_at_later_dates_skip_earlier_segments(
    recording: Recording,
) -> None:
    """Half a frame does not count as later."""
    listing = Listing(recording)
    look(listing, entries(70, 99))
    later = tuple(
        replace(entry, sequence=entry.sequence - 95)
        for entry in entries(95, 105, wrong_from=0, by_s=-0.05, name="anew-{}.ts")
    )
    assert numbers(listing.find_new(later)) == [5, 6, 7, 8, 9, 10]


def without_numbers(first: int, last: int, **how: Any) -> tuple[Entry, ...]:
    """Entries as read from a playlist without numbers."""
    listed = entries(first, last, **how)
    return tuple(replace(entry, sequence=n) for n, entry in enumerate(listed))


@pytest.mark.parametrize("later_s", [0.05, 0.1])
def test_without_numbers_later_segments_are_new(recording: Recording, later_s: float) -> None:
    """A tenth of a second does not count as later."""
    listing = Listing(recording)
    look(listing, without_numbers(70, 99))
    moved = without_numbers(90, 105, wrong_from=0, by_s=-later_s, name="moved-{}.ts")
    new = listing.find_new(moved, numbered=False)
    assert [name_of(entry) for entry in new] == [f"/moved-{n}.ts@0" for n in range(100, 106)]
    assert not listing.follows


def test_without_numbers_and_dates_a_new_name_is_a_new_segment(recording: Recording) -> None:
    """One in the middle is missing, so positions do not help."""
    listing = Listing(recording)
    look(listing, without_numbers(70, 99, dated=False))
    listed = without_numbers(95, 101, dated=False)
    new = listing.find_new((*listed[:1], *listed[2:]), numbered=False)
    assert [name_of(entry) for entry in new] == ["/100.ts@0", "/101.ts@0"]


def test_without_numbers_a_playlist_of_only_new_names_is_new(
    recording: Recording,
) -> None:
    listing = Listing(recording)
    first = without_numbers(70, 71, dated=False)
    listing.advance(first, listing.find_new(first, numbered=False))
    new = listing.find_new(without_numbers(72, 73, dated=False), numbered=False)
    assert [name_of(entry) for entry in new] == ["/72.ts@0", "/73.ts@0"]


def test_other_parts_of_one_file_are_new_though_their_numbers_are_the_same(
    recording: Recording,
) -> None:
    """A cache has an old copy, of a packager that numbers each playlist from 0."""

    def parts(first: int) -> tuple[Entry, ...]:
        lines = [f"#EXTINF:1,\n#EXT-X-BYTERANGE:9@{n}\nlive.ts" for n in range(first, first + 3)]
        text = "\n".join(["#EXTM3U", "#EXT-X-MEDIA-SEQUENCE:0", *lines])
        return parse_playlist(text, "http://example.com/live.m3u8").entries

    listing = Listing(recording)
    assert look(listing, parts(90)) == ["/live.ts@92"]
    assert look(listing, parts(10)) == ["/live.ts@10", "/live.ts@11", "/live.ts@12"]
    assert look(listing, parts(11)) == ["/live.ts@13"]


def test_the_next_run_continues_the_numbers(recording: Recording) -> None:
    """The overlap shows that they are reliable, so the next number follows."""
    listing = after(recording, entries(90, 99, dated=False))
    assert look(listing, entries(95, 104, dated=False)) == [f"/{n}.ts@0" for n in range(100, 105)]
    assert numbers(listing.find_new(entries(105, 107, dated=False))) == [105, 106, 107]
    assert listing.follows


def test_the_next_run_keeps_whether_the_source_s_numbers_are_reliable(recording: Recording) -> None:
    before = Listing(recording)
    look(before, entries(90, 99))
    lying = tuple(replace(entry, sequence=entry.sequence - 90) for entry in entries(91, 100))
    assert look(before, lying) == ["/100.ts@0"]
    record(recording, before, lying[-1])
    listing = go_on(recording)
    later = tuple(replace(entry, sequence=entry.sequence - 90) for entry in entries(101, 103))
    assert numbers(listing.find_new(later)) == [11, 12, 13]
    assert not listing.follows


def test_the_shift_of_a_recording_is_kept(recording: Recording) -> None:
    assert after(recording, entries(90, 99)).shift == timedelta(0)
    assert Listing(recording).shift == timedelta(0)


def test_an_entry_keeps_its_position_while_it_is_listed(recording: Recording) -> None:
    listing = Listing(recording)
    look(listing, entries(70, 79))
    assert [place for place, _ in listing.places()] == list(range(10))
    look(listing, entries(72, 81))
    assert [place for place, _ in listing.places()] == list(range(2, 12))
    assert listing.at(2) == entries(72, 72)[0]
    assert listing.at(1) is None
    look(listing, entries(90, 91, name="anew-{}.ts"))
    assert [place for place, _ in listing.places()] == [12, 13]
    assert Listing(recording).sequence is None


def test_names_used_again_during_a_pause_are_new(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty names in turns, neither numbers nor dates, and twelve segments in a pause."""
    now = [100.0]
    monkeypatch.setattr("flows.capture.hls.listing.time.monotonic", lambda: now[0])
    listing = Listing(recording)

    def look_at(first: int) -> int:
        found = listing.find_new(entries(first, first + 5, dated=False, names=20), numbered=False)
        if found:
            listing.advance(entries(first, first + 5, dated=False, names=20), found)
        return len(found)

    found = []
    for first in range(15):
        now[0] += 2.0
        found.append(look_at(first))
    assert found[1:] == [1] * 14
    now[0] += 24.0
    assert look_at(26) == 6
    assert look_at(26) == 0
