"""Dates of segments if the source's dates and timestamps disagree."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.capture.hls.anchoring import Anchoring
from flows.capture.playlists.playlist import Entry, parse_playlist
from flows.capture.recorded.clock import Clock, Section
from flows.capture.recorded.media import TICKS_PER_S, Extent
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.runs import save_clock
from flows.capture.segment import SourceUnreachable
from flows.capture.stream import Stream

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP_S = 2.0
LAST = 49
"""The newest recorded segment; the recording ends at 100 s."""

STREAM = Stream(
    page_url="http://example.com/show",
    url="http://example.com/live.m3u8",
    protocol="hls",
    live=True,
    live_status=None,
    source_id="",
    title="",
)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_S)


def listed(
    first: int,
    last: int,
    *,
    wrong_from: int = 1000,
    by_s: float = 0.0,
    dated: bool = True,
    discontinuity: int | None = None,
) -> tuple[Entry, ...]:
    """Return segments of 2 s, whose dates are `by_s` too late from segment `wrong_from` on."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, last + 1):
        date = at(STEP_S * n + (by_s if n >= wrong_from else 0))
        lines += ["#EXT-X-DISCONTINUITY"] if n == discontinuity else []
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}"] if dated else []
        lines += ["#EXTINF:2,", f"{n}.ts"]
    return parse_playlist("\n".join(lines), STREAM.url).entries


class Nothing:
    """A fetcher that gets no answer."""

    def get(self, *_: object, **__: object) -> Any:
        raise SourceUnreachable("no answer")


class Read(Anchoring):
    """Timestamps of segments as set by a test; `read`: the segments whose were used."""

    def __init__(
        self,
        recording: Recording,
        *,
        unreadable: Iterable[int] = (),
        key_s: float = 0.0,
        moved_s: float = 0.0,
        time_shifted: bool = False,
    ) -> None:
        super().__init__(Nothing(), recording, time_shifted=time_shifted)
        self.read: list[int] = []
        self._unreadable, self._key_s, self._moved_s = set(unreadable), key_s, moved_s

    def times_in(self, entry: Entry) -> tuple[int | None, int | None]:
        self.read.append(entry.sequence)
        if entry.sequence in self._unreadable:
            return None, None
        first_s = STEP_S * entry.sequence + self._moved_s
        return ticks(first_s), ticks(first_s + self._key_s)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


class Waited(Recording):
    """A recording to which nothing was added for a time set by a test."""

    waited: timedelta | None = None

    @property
    def idle(self) -> timedelta | None:
        return self.waited


def recorded(
    directory: Path, *, idle_s: float | None = 20.0, estimated: bool = False, anchored: bool = True
) -> Recording:
    """Return a recording of an ffmpeg run that began at noon, up to LAST, for the next run."""
    recording = Recording(directory, channel="demo", broadcast=1)
    run = recording.new_run(NOON)
    clock = Clock(first=0)
    clock.begin(Section(date=NOON, estimated=False, input=0 if anchored else None))
    save_clock(directory, run, clock)
    path = directory / f"{run}-000000.ts"
    path.touch()
    extent = Extent(first=0, end=180_000, interval=3600, longest=3600, width_px=1, height_px=1)
    end = at(STEP_S * (LAST + 1))
    recording.add(path, extent, start=NOON, end=end, estimated=estimated)
    found = Waited(directory, channel="demo", broadcast=1)
    found.waited = None if idle_s is None else timedelta(seconds=idle_s)
    return found


def test_nothing_is_missed_without_a_playlist_or_a_recording(directory: Path) -> None:
    empty = Read(Recording(directory, channel="demo", broadcast=1))
    assert empty.n_missed(listed(40, 59)) == 0
    assert not empty.is_anchored
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(()) == 0
    assert anchoring.is_anchored


@pytest.mark.parametrize(("anchored", "n"), [(True, 10), (False, 0)])
def test_an_estimated_date_is_used_if_timestamps_are_anchored(
    directory: Path, anchored: bool, n: int
) -> None:
    recording = recorded(directory, estimated=True, anchored=anchored)
    assert Read(recording).n_missed(listed(40, 59)) == n


@pytest.mark.parametrize("last", [50, 59, 61])
def test_missed_segments_are_counted_by_plausible_dates(directory: Path, last: int) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, last)) == last - LAST
    assert anchoring.read == []


def test_dates_are_used_if_the_idle_time_is_unknown(directory: Path) -> None:
    anchoring = Read(recorded(directory, idle_s=None))
    assert anchoring.n_missed(listed(40, 80)) == 31
    assert anchoring.read == []


@pytest.mark.parametrize("by_s", [40.0, -40.0])
def test_a_jump_of_all_dates_is_detected_by_one_segment_s_timestamps(
    directory: Path, by_s: float
) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=0, by_s=by_s)) == 10
    assert anchoring.read == [59]


@pytest.mark.parametrize(("by_s", "read"), [(1.5, [59, 54]), (0.5, [])])
def test_a_jump_within_the_playlist_is_detected_by_segments_on_both_sides(
    directory: Path, by_s: float, read: list[int]
) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=by_s)) == 10
    assert anchoring.read == read


def test_a_large_jump_within_the_playlist(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=40)) == 10
    assert anchoring.read == [59, 54]


def test_segments_are_counted_across_a_jump_after_an_unreadable_segment(directory: Path) -> None:
    anchoring = Read(recorded(directory), unreadable=[54])
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=40)) == 10


def test_segments_are_not_counted_across_a_jump_at_a_discontinuity(directory: Path) -> None:
    """Segments before it may be of another stream; by their dates, none of them is missed."""
    jumped = listed(40, 59, wrong_from=55, by_s=40, discontinuity=55)
    assert Read(recorded(directory), unreadable=[54]).n_missed(jumped) == 5


def test_if_nothing_can_be_read_the_newest_segment_is_assumed_to_end_now(directory: Path) -> None:
    """20 s have passed, plus a tolerance of two segments: 24 s are twelve segments."""
    wrong = listed(30, 59, wrong_from=0, by_s=40)
    anchoring = Read(recorded(directory), unreadable=range(60))
    assert anchoring.n_missed(wrong) == 12
    assert anchoring.read == [59]


def test_a_segment_without_a_date_ends_the_count(directory: Path) -> None:
    undated = tuple(replace(entry, date=None) for entry in listed(40, 54))
    dated = listed(55, 59, wrong_from=0, by_s=40)
    assert Read(recorded(directory)).n_missed((*undated, *dated)) == 5


# -- date of a run


def first_section(anchoring: Anchoring, *opened: Entry, start_s: float | None) -> Section | None:
    start = None if start_s is None else ticks(start_s)
    return anchoring.first_section([(entry, at(105)) for entry in opened], start=start)


@pytest.mark.parametrize(
    ("start_s", "began"),
    [(None, 50), (101.49, 50), (101.5, 51), (103.49, 51), (103.5, 50), (99.5, 50), (99.0, 50)],
    ids=["unknown", "first", "next", "its end", "none", "reordered", "before"],
)
def test_a_run_begins_with_the_entry_that_contains_its_first_frame(
    directory: Path, start_s: float | None, began: int
) -> None:
    """With a tolerance of a quarter of a segment; if no entry contains it, with the first."""
    found = first_section(Read(recorded(directory)), *listed(50, 51), start_s=start_s)
    assert found == Section(date=at(2 * began), estimated=False, input=ticks(2 * began))


def test_a_run_without_an_opened_entry_has_no_date(directory: Path) -> None:
    assert first_section(Read(recorded(directory)), start_s=100) is None


def test_an_entry_without_a_date_is_dated_by_its_opening(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    (entry,) = listed(50, 50, dated=False)
    found = first_section(anchoring, entry, start_s=None)
    assert found == Section(date=at(103), estimated=True, input=None)
    assert anchoring.read == []


def test_a_run_begins_at_its_first_keyframe(directory: Path) -> None:
    found = first_section(Read(recorded(directory), key_s=0.4), *listed(50, 50), start_s=100)
    assert found == Section(date=at(100.4), estimated=False, input=ticks(100.4))


def test_a_wrong_date_that_cannot_be_checked_is_not_used(directory: Path) -> None:
    anchoring = Read(recorded(directory), unreadable=[50])
    assert first_section(anchoring, *listed(50, 50, wrong_from=0, by_s=40), start_s=None) is None
    right = first_section(anchoring, *listed(50, 50), start_s=None)
    assert right == Section(date=at(100), estimated=False, input=None)


def test_a_wrong_date_is_used_if_timestamps_are_not_anchored(directory: Path) -> None:
    anchoring = Read(recorded(directory, anchored=False), unreadable=[50])
    found = first_section(anchoring, *listed(50, 50, wrong_from=0, by_s=40), start_s=None)
    assert found == Section(date=at(140), estimated=False, input=None)


@pytest.mark.parametrize("by_s", [1835.5, -1825.5], ids=["ahead", "behind"])
def test_a_date_over_half_an_hour_from_now_is_not_used(directory: Path, by_s: float) -> None:
    """Nor are its timestamps, which were reset: it is dated by its opening."""
    far = listed(50, 50, wrong_from=0, by_s=by_s)
    recording = recorded(directory)
    found = first_section(Read(recording, moved_s=1e4), *far, start_s=None)
    assert found == Section(date=at(103), estimated=True, input=ticks(10_100))
    by_hand = first_section(Read(recording, moved_s=1e4, time_shifted=True), *far, start_s=None)
    assert by_hand == Section(date=at(100 + by_s), estimated=False, input=ticks(10_100))


@pytest.mark.parametrize("by_s", [1835.0, -1825.0], ids=["ahead", "behind"])
def test_a_date_within_half_an_hour_is_used(directory: Path, by_s: float) -> None:
    near = listed(50, 50, wrong_from=0, by_s=by_s)
    found = first_section(Read(recorded(directory), moved_s=1e4), *near, start_s=None)
    assert found == Section(date=at(100 + by_s), estimated=False, input=ticks(10_100))


@pytest.mark.parametrize("by_s", [40.0, -40.0])
def test_continuous_timestamps_win_over_a_clock_that_jumped(
    directory: Path, by_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = listed(52, 52, wrong_from=0, by_s=by_s)
    found = first_section(Read(recorded(directory), key_s=0.4), *wrong, start_s=None)
    assert found == Section(date=at(104.4), estimated=True, input=ticks(104.4))
    assert f"the source's clock jumped by {by_s:.1f} s" in caplog.text


@pytest.mark.parametrize("idle_s", [None, 20.0])
def test_the_date_is_used_without_a_known_clock_or_idle_time(
    directory: Path, idle_s: float | None
) -> None:
    wrong = listed(52, 52, wrong_from=0, by_s=40)
    recording = recorded(directory, idle_s=idle_s, anchored=idle_s is None)
    found = first_section(Read(recording), *wrong, start_s=None)
    assert found == Section(date=at(144), estimated=False, input=ticks(104))


@pytest.mark.parametrize(
    ("date_s", "expected_s", "true_s"),
    [
        (99.1, 60, 99.1),  # overlaps the recording by less than the error of a duration
        (99.0, 90, 90),
        (124.5, 60, 124.5),  # frames may be missing before it
        (126, 100, 100),
        (130, 129.9, 130),  # timestamps agree, within the shortest gap
        (130, 130.0, 130),
        (130, 130.2, 130.2),
        (130, 125.5, 130),  # frames may be missing before it
        (130, 124.5, 124.5),
        (170, 149.5, 149.5),  # the recording may be so far behind
        (170, 151, 170),
        (130, 70.5, 70.5),
        (130, 69.5, 130),
    ],
)
def test_timestamps_are_used_if_they_are_continuous_and_the_date_is_not(
    directory: Path, date_s: float, expected_s: float, true_s: float
) -> None:
    """100 s were recorded, 20 s ago; a segment's date and its timestamps disagree."""
    (entry,) = listed(50, 50, wrong_from=0, by_s=date_s - 100)
    anchoring = Read(recorded(directory), moved_s=expected_s - 100)
    found = first_section(anchoring, entry, start_s=None)
    assert found is not None
    assert found.date == at(true_s)
    assert found.estimated is (true_s != date_s)


def test_a_manifest_s_timestamps_are_relative_to_the_period_on_air(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    now = datetime.now(UTC)
    origins = [now - timedelta(seconds=s) for s in (4000, 100, 1100)]
    found = anchoring.section_by_origin(origins, start=ticks(90))
    assert found == Section(date=origins[1] + timedelta(seconds=90), estimated=False, input=8100000)
    assert anchoring.section_by_origin(origins, start=None) is None
    assert anchoring.section_by_origin([], start=ticks(90)) is None
    assert anchoring.section_by_origin(origins, start=ticks(1e12)) is None


@pytest.mark.parametrize("off_s", [-1900, 1900, -1750, 1750])
def test_a_manifest_s_date_is_used_up_to_half_an_hour_from_now(directory: Path, off_s: int) -> None:
    origin = datetime.now(UTC) + timedelta(seconds=off_s - 90)
    found = Read(recorded(directory)).section_by_origin([origin], start=ticks(90))
    assert (found is not None) is (abs(off_s) < 1800)
    by_hand = Read(recorded(directory / "by-hand"), time_shifted=True)
    assert by_hand.section_by_origin([origin], start=ticks(90)) is not None


# -- where a run begins, and jumps


def test_what_comes_before_the_first_keyframe_is_not_dated(directory: Path) -> None:
    anchoring = Read(Recording(directory, channel="demo", broadcast=1))
    opened = [(entry, entry.date) for entry in listed(50, 52)]
    times = {50: (ticks(100), None), 51: (ticks(102), None), 52: (ticks(104), ticks(105))}
    anchoring.times_in = lambda entry: times[entry.sequence]
    assert anchoring.first_section(opened[:2], start=ticks(100)) is None
    found = anchoring.first_section(opened, start=ticks(100))
    assert found == Section(date=at(105), estimated=False, input=ticks(105))


def test_a_jump_is_that_of_the_segment_whose_timestamps_jump(directory: Path) -> None:
    anchoring = Read(Recording(directory, channel="demo", broadcast=1))
    first, *others = opened = listed(50, 53)
    anchoring.times_in = lambda entry: (ticks(7 if entry is first else 0), None)
    assert anchoring.jumped(opened, by_us=-9_000_000, after=None) is others[0]
    assert anchoring.jumped(opened, by_us=-2_000_000, after=others[0]) is others[1]
    assert anchoring.jumped(opened, by_us=-2_000_000, after=others[1]) is others[2]
    assert anchoring.jumped(opened, by_us=44_000_000, after=None) is others[2]
    assert anchoring.jumped((), by_us=1, after=None) is None


def test_the_newest_segment_jumps_where_none_can_be_read_or_has_a_date(directory: Path) -> None:
    anchoring = Read(Recording(directory, channel="demo", broadcast=1), unreadable=[51])
    for opened in (listed(50, 53), listed(50, 53, dated=False)):
        assert anchoring.jumped(opened, by_us=-2_000_000, after=None) is opened[-1]
    assert anchoring.read == [50, 51, 51, 52]


# -- what cannot be read


def test_a_missing_segment_has_no_timestamps(directory: Path) -> None:
    anchoring = Anchoring(Nothing(), recorded(directory))
    (entry,) = listed(50, 50)
    assert anchoring.times_in(entry) == (None, None)
