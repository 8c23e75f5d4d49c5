"""When a source's segments were on air by dates and timestamps: which of them is believed."""

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
"""The newest recorded segment; what is recorded ends at 100 s."""

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
    """Segments of 2 s, dated so much later than they are from one on."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for n in range(first, last + 1):
        date = at(STEP_S * n + (by_s if n >= wrong_from else 0))
        lines += ["#EXT-X-DISCONTINUITY"] if n == discontinuity else []
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date.isoformat()}"] if dated else []
        lines += ["#EXTINF:2,", f"{n}.ts"]
    return parse_playlist("\n".join(lines), STREAM.url).entries


class Nothing:
    """A fetcher that nobody answers."""

    def get(self, *_: object, **__: object) -> Any:
        raise SourceUnreachable("no answer")


class Read(Anchoring):
    """Segments' first frame and keyframe as a test says them; it keeps which were read."""

    def __init__(
        self,
        recording: Recording,
        *,
        unreadable: Iterable[int] = (),
        key_s: float = 0.0,
        moved_s: float = 0.0,
        time_shifted: bool = False,
    ) -> None:
        super().__init__(STREAM, Nothing(), recording, time_shifted=time_shifted)
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
    """A recording to which nothing was added for as long as a test says."""

    waited: timedelta | None = None

    @property
    def idle(self) -> timedelta | None:
        return self.waited


def recorded(
    directory: Path, *, idle_s: float | None = 20.0, estimated: bool = False, anchored: bool = True
) -> Recording:
    """A run of ffmpeg whose timestamps began at noon, up to LAST; as the next run finds it."""
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


def test_without_a_playlist_or_a_recording_nothing_is_missed(directory: Path) -> None:
    empty = Read(Recording(directory, channel="demo", broadcast=1))
    assert empty.n_missed(listed(40, 59)) == 0
    assert not empty.is_anchored
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(()) == 0
    assert anchoring.is_anchored


@pytest.mark.parametrize(("anchored", "n"), [(True, 10), (False, 0)])
def test_an_estimated_date_counts_where_timestamps_have_dates(
    directory: Path, anchored: bool, n: int
) -> None:
    recording = recorded(directory, estimated=True, anchored=anchored)
    assert Read(recording).n_missed(listed(40, 59)) == n


@pytest.mark.parametrize("last", [50, 59, 61])
def test_dates_that_are_credible_tell_what_is_missed(directory: Path, last: int) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, last)) == last - LAST
    assert anchoring.read == []


def test_where_the_machine_s_wait_is_unknown_dates_are_believed(directory: Path) -> None:
    anchoring = Read(recorded(directory, idle_s=None))
    assert anchoring.n_missed(listed(40, 80)) == 31
    assert anchoring.read == []


@pytest.mark.parametrize("by_s", [40.0, -40.0])
def test_a_clock_that_jumped_for_all_is_seen_by_one_segment_s_timestamps(
    directory: Path, by_s: float
) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=0, by_s=by_s)) == 10
    assert anchoring.read == [59]


@pytest.mark.parametrize(("by_s", "read"), [(1.5, [59, 54]), (0.5, [])])
def test_a_clock_that_jumps_within_the_playlist_is_seen_on_both_sides(
    directory: Path, by_s: float, read: list[int]
) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=by_s)) == 10
    assert anchoring.read == read


def test_a_clock_that_jumps_far_within_the_playlist(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=40)) == 10
    assert anchoring.read == [59, 54]


def test_a_jump_before_which_nothing_can_be_read_is_bridged(directory: Path) -> None:
    anchoring = Read(recorded(directory), unreadable=[54])
    assert anchoring.n_missed(listed(40, 59, wrong_from=55, by_s=40)) == 10


def test_a_jump_at_a_discontinuity_is_not_bridged(directory: Path) -> None:
    """What is before it may be anything: by the dates as they stand there, none is missed."""
    jumped = listed(40, 59, wrong_from=55, by_s=40, discontinuity=55)
    assert Read(recorded(directory), unreadable=[54]).n_missed(jumped) == 5


def test_where_nothing_can_be_read_the_newest_ended_by_now(directory: Path) -> None:
    """20 s have passed and two segments' time is allowed for: 24 s are twelve segments."""
    wrong = listed(30, 59, wrong_from=0, by_s=40)
    anchoring = Read(recorded(directory), unreadable=range(60))
    assert anchoring.n_missed(wrong) == 12
    assert anchoring.read == [59]


def test_what_has_no_date_ends_the_count(directory: Path) -> None:
    undated = tuple(replace(entry, date=None) for entry in listed(40, 54))
    dated = listed(55, 59, wrong_from=0, by_s=40)
    assert Read(recorded(directory)).n_missed((*undated, *dated)) == 5


# -- what dates a run


def first_section(anchoring: Anchoring, *opened: Entry, start_s: float | None) -> Section | None:
    start = None if start_s is None else ticks(start_s)
    return anchoring.first_section([(entry, at(105)) for entry in opened], start=start)


@pytest.mark.parametrize(
    ("start_s", "began"),
    [(None, 50), (101.49, 50), (101.5, 51), (103.49, 51), (103.5, 50), (99.5, 50), (99.0, 50)],
    ids=["unknown", "first", "next", "its end", "none", "reordered", "before"],
)
def test_a_run_begins_with_the_entry_that_holds_its_first_frame(
    directory: Path, start_s: float | None, began: int
) -> None:
    """Give or take a quarter of a segment; the first where none is known to hold it."""
    found = first_section(Read(recorded(directory)), *listed(50, 51), start_s=start_s)
    assert found == Section(date=at(2 * began), estimated=False, input=ticks(2 * began))


def test_nothing_that_was_opened_dates_nothing(directory: Path) -> None:
    assert first_section(Read(recorded(directory)), start_s=100) is None


def test_an_entry_without_a_date_was_published_when_it_was_opened(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    (entry,) = listed(50, 50, dated=False)
    found = first_section(anchoring, entry, start_s=None)
    assert found == Section(date=at(103), estimated=True, input=None)
    assert anchoring.read == []


def test_a_run_that_begins_with_a_later_keyframe_begins_later(directory: Path) -> None:
    found = first_section(Read(recorded(directory), key_s=0.4), *listed(50, 50), start_s=100)
    assert found == Section(date=at(100.4), estimated=False, input=ticks(100.4))


def test_a_wrong_date_that_cannot_be_checked_dates_nothing(directory: Path) -> None:
    anchoring = Read(recorded(directory), unreadable=[50])
    assert first_section(anchoring, *listed(50, 50, wrong_from=0, by_s=40), start_s=None) is None
    right = first_section(anchoring, *listed(50, 50), start_s=None)
    assert right == Section(date=at(100), estimated=False, input=None)


def test_a_wrong_date_is_taken_where_no_timestamp_has_one(directory: Path) -> None:
    anchoring = Read(recorded(directory, anchored=False), unreadable=[50])
    found = first_section(anchoring, *listed(50, 50, wrong_from=0, by_s=40), start_s=None)
    assert found == Section(date=at(140), estimated=False, input=None)


@pytest.mark.parametrize("by_s", [1835.5, -1825.5], ids=["ahead", "behind"])
def test_a_date_half_an_hour_from_now_is_not_believed(directory: Path, by_s: float) -> None:
    """Nor are its timestamps, which began anew: it was on air when it was opened."""
    far = listed(50, 50, wrong_from=0, by_s=by_s)
    recording = recorded(directory)
    found = first_section(Read(recording, moved_s=1e4), *far, start_s=None)
    assert found == Section(date=at(103), estimated=True, input=ticks(10_100))
    by_hand = first_section(Read(recording, moved_s=1e4, time_shifted=True), *far, start_s=None)
    assert by_hand == Section(date=at(100 + by_s), estimated=False, input=ticks(10_100))


@pytest.mark.parametrize("by_s", [1835.0, -1825.0], ids=["ahead", "behind"])
def test_a_date_that_is_nearer_is_believed(directory: Path, by_s: float) -> None:
    near = listed(50, 50, wrong_from=0, by_s=by_s)
    found = first_section(Read(recorded(directory), moved_s=1e4), *near, start_s=None)
    assert found == Section(date=at(100 + by_s), estimated=False, input=ticks(10_100))


@pytest.mark.parametrize("by_s", [40.0, -40.0])
def test_a_clock_that_jumped_yields_to_timestamps_that_go_on(
    directory: Path, by_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = listed(52, 52, wrong_from=0, by_s=by_s)
    found = first_section(Read(recorded(directory), key_s=0.4), *wrong, start_s=None)
    assert found == Section(date=at(104.4), estimated=True, input=ticks(104.4))
    assert f"the source's clock jumped by {by_s:.1f} s" in caplog.text


@pytest.mark.parametrize("idle_s", [None, 20.0])
def test_without_a_clock_or_a_wait_that_is_known_the_date_is_taken(
    directory: Path, idle_s: float | None
) -> None:
    wrong = listed(52, 52, wrong_from=0, by_s=40)
    recording = recorded(directory, idle_s=idle_s, anchored=idle_s is None)
    found = first_section(Read(recording), *wrong, start_s=None)
    assert found == Section(date=at(144), estimated=False, input=ticks(104))


@pytest.mark.parametrize(
    ("date_s", "expected_s", "true_s"),
    [
        (99.1, 60, 99.1),  # as much before what is recorded as a duration may be off
        (99.0, 90, 90),
        (124.5, 60, 124.5),  # as late as frames may be missing
        (126, 100, 100),
        (130, 129.9, 130),  # timestamps agree, within a gap's least length
        (130, 130.0, 130),
        (130, 130.2, 130.2),
        (130, 125.5, 130),  # frames may be missing before it
        (130, 124.5, 124.5),
        (170, 149.5, 149.5),  # as late as the recording may be behind
        (170, 151, 170),
        (130, 70.5, 70.5),
        (130, 69.5, 130),
    ],
)
def test_timestamps_count_where_they_go_on_and_the_date_does_not(
    directory: Path, date_s: float, expected_s: float, true_s: float
) -> None:
    """Recorded are 100 s, 20 s ago; a segment has a date, and by its timestamps another."""
    (entry,) = listed(50, 50, wrong_from=0, by_s=date_s - 100)
    anchoring = Read(recorded(directory), moved_s=expected_s - 100)
    found = first_section(anchoring, entry, start_s=None)
    assert found is not None
    assert found.date == at(true_s)
    assert found.estimated is (true_s != date_s)


def test_a_manifest_s_timestamps_count_from_the_period_that_is_on_air(directory: Path) -> None:
    anchoring = Read(recorded(directory))
    now = datetime.now(UTC)
    origins = [now - timedelta(seconds=s) for s in (4000, 100, 1100)]
    found = anchoring.section_by_origin(origins, start=ticks(90))
    assert found == Section(date=origins[1] + timedelta(seconds=90), estimated=False, input=8100000)
    assert anchoring.section_by_origin(origins, start=None) is None
    assert anchoring.section_by_origin([], start=ticks(90)) is None
    assert anchoring.section_by_origin(origins, start=ticks(1e12)) is None


@pytest.mark.parametrize("off_s", [-1900, 1900, -1750, 1750])
def test_a_manifest_s_date_is_believed_up_to_half_an_hour(directory: Path, off_s: int) -> None:
    origin = datetime.now(UTC) + timedelta(seconds=off_s - 90)
    found = Read(recorded(directory)).section_by_origin([origin], start=ticks(90))
    assert (found is not None) is (abs(off_s) < 1800)
    by_hand = Read(recorded(directory / "by-hand"), time_shifted=True)
    assert by_hand.section_by_origin([origin], start=ticks(90)) is not None


# -- what can't be read


def test_a_segment_that_is_not_there_or_a_part_has_no_timestamps(directory: Path) -> None:
    anchoring = Anchoring(STREAM, Nothing(), recorded(directory))
    (entry,) = listed(50, 50)
    assert anchoring.times_in(entry) == (None, None)


def test_other_streams_have_no_playlist(directory: Path) -> None:
    stream = replace(STREAM, protocol="http")
    assert Anchoring(stream, Nothing(), recorded(directory)).entries() == {}
