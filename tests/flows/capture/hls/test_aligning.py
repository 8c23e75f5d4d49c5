"""How far a playlist has advanced if its names, dates or numbers are wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.capture.hls.aligning import Alignment, Known, known_of, name_of
from flows.capture.playlists.playlist import Entry, parse_playlist

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP_S = 2.0


def listed(
    segments: Iterable[int],
    *,
    name: str = "/{}.ts@0",
    number: int = 0,
    dated: bool = True,
    ahead_s: float = 0.0,
) -> list[Known]:
    """Return these segments. number, ahead_s: added to their numbers and dates."""
    return [
        Known(
            name=name.format(n),
            number=n + number,
            date=NOON + timedelta(seconds=STEP_S * n + ahead_s) if dated else None,
        )
        for n in segments
    ]


OLD = range(10, 16)


def shift(
    new: Sequence[Known],
    old: Sequence[Known] | None = None,
    *,
    since_s: float = STEP_S,
    numbers_hold: bool | None = None,
) -> tuple[int | None, bool | None]:
    """Return by how many segments it has advanced, and whether its numbers are reliable."""
    alignment = Alignment(listed(OLD) if old is None else old)
    alignment.numbers_hold = numbers_hold
    found = alignment.shift(new, since_s=since_s, step_s=STEP_S)
    return found, alignment.numbers_hold


def test_an_empty_playlist_gives_no_shift() -> None:
    assert shift([]) == (None, None)
    assert shift(listed(OLD), []) == (None, None)
    assert len(Alignment(listed(OLD))) == 6
    kept = Alignment()
    kept.keep(listed(OLD))
    assert (len(kept), kept.shift(listed([11]), since_s=0, step_s=STEP_S)) == (6, 1)


@pytest.mark.parametrize(
    ("new", "found", "hold"),
    [
        (listed(OLD), 0, None),
        (listed(range(11, 17)), 1, True),
        (listed(range(15, 21)), 5, True),
        (listed(range(16, 22)), None, None),
        (listed(range(8, 14)), -2, None),
        (listed(range(12, 18), number=-12), 2, False),
        (listed(range(12, 18), dated=False), 2, True),
    ],
    ids=["same", "one on", "one left", "none left", "older", "renumbered", "no dates"],
)
def test_shift_by_names(new: list[Known], found: int | None, hold: bool | None) -> None:
    assert shift(new) == (found, hold)


def test_an_address_signed_in_its_path_is_identified_by_its_last_part() -> None:
    old, new = listed(OLD, name="/abc/{}.ts@0"), listed(range(12, 18), name="/xyz/{}.ts@0")
    assert shift(new, old) == (2, True)


@pytest.mark.parametrize(
    "segments",
    [[12, 13, 13], [12, 14, 13], [12, 14, 15, 16], [14, 15, 10]],
    ids=["one twice", "another order", "one left out", "one used again"],
)
def test_contradictory_names_give_no_shift(segments: list[int]) -> None:
    assert shift(listed(segments, number=99, dated=False)) == (None, None)


def test_an_old_playlist_with_a_duplicate_name_gives_no_shift() -> None:
    assert shift(listed([12, 13], number=99), listed([10, 11, 12, 12], dated=False))[0] is None


@pytest.mark.parametrize(
    ("since_s", "before", "found", "hold"),
    [(4.0, True, 2, True), (3.01, True, 2, True), (3.0, True, 0, False), (4.0, None, 0, False)],
    ids=["in time", "just in time", "too soon", "numbers unknown"],
)
def test_numbers_win_over_reused_names(
    since_s: float, before: bool | None, found: int, hold: bool
) -> None:
    """Two segments are new by their numbers, which takes at least three seconds."""
    old, again = (listed(OLD, dated=False, number=number) for number in (0, 2))
    assert shift(again, old, since_s=since_s, numbers_hold=before) == (found, hold)


def test_dates_and_numbers_that_agree_win_over_reused_names() -> None:
    again = listed(OLD, number=2, ahead_s=2 * STEP_S)
    assert shift(again, since_s=4.0) == (2, None)
    assert shift(again, since_s=3.0) == (0, False)
    assert shift(listed(OLD, number=2, ahead_s=3 * STEP_S), since_s=4.0) == (0, False)


def test_no_segment_is_missed_if_all_names_are_reused() -> None:
    again = listed(OLD, number=6, dated=False)
    old = listed(OLD, dated=False)
    assert shift(again, old, since_s=12.0, numbers_hold=True) == (None, True)
    assert shift(listed(OLD, number=5, dated=False), old, since_s=12.0, numbers_hold=True) == (
        5,
        True,
    )


def test_one_reused_name_does_not_hide_the_segments_before_it() -> None:
    """The newest has the name of a segment that was removed; the playlist is not an older copy."""
    old, new = listed(OLD, dated=False), [*listed(range(11, 16), dated=False)]
    new.append(Known(name="/10.ts@0", number=16, date=None))
    assert shift(new, old, since_s=0.0) == (1, None)


RENAMED = "/other-{}@0"


@pytest.mark.parametrize(
    ("new", "hold", "found"),
    [
        (listed(range(12, 18), name=RENAMED, number=99), None, 2),
        (listed(range(12, 18), name=RENAMED, number=99), False, 2),
        (listed(range(12, 18), name=RENAMED, number=99), True, None),
        (listed(OLD, name=RENAMED, number=99), None, 0),
        (listed(range(8, 14), name=RENAMED, number=99), None, None),
        (listed(range(8, 14), name=RENAMED, number=99), False, -2),
        (listed(range(12, 18), name=RENAMED), True, 2),
        (listed(range(12, 18), name=RENAMED, ahead_s=1), None, None),
        (listed(range(12, 18), name=RENAMED, ahead_s=1), True, None),
        (listed(range(12, 18), name=RENAMED, dated=False), None, 2),
        (listed(range(12, 18), name=RENAMED, dated=False), False, None),
        (listed(OLD, name=RENAMED, dated=False), None, 0),
        (listed(range(15, 18), name=RENAMED, dated=False), None, 5),
        (listed(range(16, 18), name=RENAMED, dated=False), None, None),
        (listed(range(9, 15), name=RENAMED, dated=False), None, None),
    ],
    ids=[
        "dates",
        "dates, numbers wrong",
        "dates against reliable numbers",
        "the same dates",
        "older dates",
        "older dates, numbers wrong",
        "dates and numbers agree",
        "other segments with these numbers",
        "the same with reliable numbers",
        "numbers alone",
        "wrong numbers",
        "the same numbers",
        "the last number",
        "the number after it",
        "a number before them",
    ],
)
def test_shift_by_dates_and_numbers_if_all_names_are_new(
    new: list[Known], hold: bool | None, found: int | None
) -> None:
    assert shift(new, numbers_hold=hold) == (found, hold)


def entry(url: str, date: str = "2026-11-22T12:00:00.129Z", more: str = "") -> Entry:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:7"]
    lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date}", *more.split(), "#EXTINF:2,", url]
    (found,) = parse_playlist("\n".join(lines), "http://example.com/live.m3u8").entries
    return found


def test_an_entry_is_identified_by_its_path_and_its_date_to_a_hundredth() -> None:
    known = known_of(entry("a/1.ts?token=abc"))
    assert known == Known(name="/a/1.ts@0", number=7, date=NOON + timedelta(microseconds=120_000))
    assert known.last_name == "1.ts@0"
    assert known_of(entry("2.ts", "2026-11-22T12:00:00.130Z")).date != known.date


def test_parts_of_one_file_have_different_names() -> None:
    first, second = (
        name_of(entry("all.mp4", more=f"#EXT-X-BYTERANGE:100@{at}")) for at in (0, 100)
    )
    assert (first, second) == ("/all.mp4@0", "/all.mp4@100")


def test_a_long_name_is_shortened_and_stays_unique() -> None:
    longest = "/" + "a" * 199
    assert name_of(entry(longest)) == f"{longest}@0"
    one, other = name_of(entry(f"{longest}b")), name_of(entry(f"{longest}c"))
    assert one != other
    assert one.startswith(f"{longest}...")
    assert len(one) == 200 + len("...") + 32 + len("@0")


def signed(segments: Iterable[int], stamp: int, name: str) -> list[Known]:
    """Return these segments without dates, under names that are signed anew."""
    return [
        Known(name=name.format(n=n, stamp=stamp, own=hash((n, stamp)) % 10_000), number=k)
        for k, n in enumerate(segments)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "/{stamp}_n{n}.ts@0",
        "/n{n}-{stamp}.ts@0",
        "/n{n}.ts;session={stamp}@0",
        "/seg.ts?n={n}&sig={own}@0",
        "/seg.ts?token={stamp}.{n}@0",
        "/{stamp}/{n}/seg-{own}.ts@0",
    ],
)
def test_a_name_signed_anew_in_a_part_is_identified_by_another_part(name: str) -> None:
    old, new = signed(OLD, 1, name), signed(range(12, 18), 2, name)
    assert shift(new, old, numbers_hold=False) == (2, False)
    assert shift(new, old, since_s=120.0, numbers_hold=False) == (None, False)  # too long ago
    assert shift(signed(OLD, 2, name), old, numbers_hold=False) == (0, False)


def test_an_encoded_name_is_the_same_in_either_case() -> None:
    old, new = (signed(OLD, 1, f"/a{slash}b-{{n}}.ts@0") for slash in ("%2f", "%2F"))
    assert shift(new, old, numbers_hold=False) == (0, False)


def test_parts_that_disagree_tell_nothing() -> None:
    old = [Known(name=f"/{n}-{m}.ts@0", number=0) for n, m in zip(OLD, range(6), strict=True)]
    new = [Known(name=f"/{n}-{m}.ts@0", number=0) for n, m in zip(range(12, 18), OLD, strict=True)]
    assert shift(new, old, numbers_hold=False) == (2, False)
    new = [
        Known(name=f"/{n}-{m}.ts@0", number=0)
        for n, m in zip(range(12, 18), range(1, 7), strict=True)
    ]
    assert shift(new, old, numbers_hold=False) == (None, False)


def test_a_single_segment_that_always_has_the_same_name_advances() -> None:
    def one(n: int, *, dated: bool = False, number: int = 0) -> list[Known]:
        return [replace(listed([n], dated=dated)[0], name="/now.ts@0", number=number)]

    assert shift(one(11, number=1), one(10), since_s=2.0) == (None, None)
    assert shift(one(11, number=1), one(10), since_s=1.0) == (0, False)  # too soon
    assert shift(one(11, dated=True, number=1), one(10, dated=True), since_s=2.0) == (None, None)
    assert shift(one(11, dated=True, number=1), one(10, dated=True), since_s=0.1) == (None, None)
    # Without numbers, by dates; without both, it is the same one.
    assert shift(one(13, dated=True), one(10, dated=True), numbers_hold=False) == (None, False)
    assert shift(one(11, dated=True), one(10, dated=True), numbers_hold=False) == (None, False)
    assert shift(one(10, dated=True), one(10, dated=True), numbers_hold=False) == (0, False)
    assert shift(one(11), one(10), numbers_hold=False) == (0, False)


@pytest.mark.parametrize("looks", [[10, 10, 11], [11, 11]], ids=["at once", "at second sight"])
def test_other_names_under_a_number_that_never_moves_are_other_segments(looks: list[int]) -> None:
    alignment = Alignment(listed([10], dated=False, number=-10))
    found = [
        alignment.shift(listed([n], dated=False, number=-n), since_s=1, step_s=STEP_S)
        for n in looks
    ]
    assert found == [0] * (len(looks) - 1) + [None]
    assert alignment.numbers_hold is False


def test_names_that_are_used_in_turns_show_how_far_it_has_advanced() -> None:
    def turns(segments: Iterable[int], n: int) -> list[Known]:
        return [Known(name=f"/{k % n}.ts@0", number=0) for k in segments]

    for ahead in range(5):
        new = turns(range(10 + ahead, 16 + ahead), 6)
        assert shift(new, turns(OLD, 6))[0] == ahead
        new = turns(range(10 + ahead, 16 + ahead), 7)
        assert shift(new, turns(OLD, 7), numbers_hold=False)[0] == ahead
