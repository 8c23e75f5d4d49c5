import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.up import until
from flows.capture.net.address import AddressPolicy
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.recovery import recover
from flows.capture.segment import (
    CaptureError,
    CaptureFailed,
    DiskFull,
    Gap,
    NotLive,
    Segment,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.supervisor import recorder, suspension
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.faults import Fault
from flows.demo.mpegts import move_timestamps
from flows.demo.packaging import Packaging
from flows.demo.server import Reply

PATIENCE_S = 60.0
MILLISECOND = timedelta(milliseconds=1)

MakeCapture = Callable[..., Capture]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_BACKOFF_S", 0.05)
    monkeypatch.setattr(recorder, "_STEPS", 0.0)


@pytest.fixture(params=["hls", "ffmpeg"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_capture(tmp_path: Path, policy: AddressPolicy, stream_of, engine: str) -> MakeCapture:
    def make(origin: LiveOrigin, *, name: str = "rec", **options: object) -> Capture:
        values = {
            "directory": tmp_path / name,
            "channel": "demo",
            "broadcast": 1,
            "policy": policy,
            "segment_s": 0.5,
            "stream": stream_of(origin),
            "engine": engine,
        }
        return Capture(origin.url, **(values | options))

    return make


def take(capture: Capture, n: int = 1) -> list[Segment | Gap]:
    """Take events until `n` of them are segments."""
    events: list[Segment | Gap] = []
    while sum(isinstance(event, Segment) for event in events) < n:
        event = capture.get(PATIENCE_S)
        assert event is not None, f"nothing more comes: {capture.last_error}"
        events.append(event)
    return events


def take_until(capture: Capture, moment: datetime) -> list[Segment | Gap]:
    """Take events until a segment ends after `moment`."""
    events = take(capture)
    while events[-1].end <= moment:
        events += take(capture)
    return events


def check_order(events: list[Segment | Gap]) -> None:
    """Assert that events are contiguous, and that segments are numbered without gaps."""
    for before, after in pairwise(events):
        assert before.end <= after.start
        assert after.start - before.end < timedelta(seconds=0.1), (before, after)
    numbers = [event.sequence for event in events if isinstance(event, Segment)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def segments_in(events: list[Segment | Gap]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment)]


def dates_of(segments: list[Segment], video_packets) -> dict[str, list[datetime]]:
    """Air time of each frame, identified by its content."""
    dates = defaultdict(list)
    for segment in segments:
        for content, offset in video_packets(segment.path):
            dates[content].append(segment.start + offset - timedelta(seconds=segment.offset_s))
    return dates


def dates_at(origin: LiveOrigin, pieces: Path, video_packets) -> dict[str, list[datetime]]:
    """All air times of each frame at the origin."""
    dates = defaultdict(list)
    paths = sorted(pieces.glob("*.ts"))
    for index in range(4 * len(paths)):
        for content, offset in video_packets(paths[index % len(paths)]):
            dates[content].append(origin.start_of(index) + offset)
    return dates


def count_right(found: dict[str, list[datetime]], known: dict[str, list[datetime]]) -> int:
    """Return the number of frames, and assert that all have correct dates."""
    for content, dates in found.items():
        for date in dates:
            assert min(abs(date - right) for right in known[content]) <= MILLISECOND
    return sum(map(len, found.values()))


def test_two_captures_give_a_frame_the_date_that_the_source_gives_it(
    make_origin, make_capture: MakeCapture, video_packets, pieces: Path
) -> None:
    origin = make_origin(window=30)
    # Longer than the clip, so the source's timestamps jump back to its beginning.
    with make_capture(origin, name="a", duration_s=7.0) as one:
        first = take(one, 2)
        with make_capture(origin, name="b", duration_s=2.5) as other:
            second = take(other)
            origin.skip(2.0)
            second += list(other)
        first += take(one, 4)
        origin.skip(2.5)
        first += list(one)
    for events in (first, second):
        check_order(events)
        assert not any(s.start_is_estimated for s in segments_in(events))

    truth = dates_at(origin, pieces, video_packets)
    frames = dates_of(segments_in(first), video_packets)
    assert count_right(frames, truth) >= 7.0 * 24
    again = dates_of(segments_in(second), video_packets)
    assert count_right(again, truth) >= 2.5 * 24
    starts = {s.start for s in segments_in(first)} & {s.start for s in segments_in(second)}
    assert len(starts) >= 3


def test_a_pause_of_the_source_is_a_gap_though_its_timestamps_do_not_show_it(
    make_origin, make_capture: MakeCapture, video_packets, pieces: Path
) -> None:
    # Shortly before its end, so that the next loop begins soon.
    origin = make_origin(
        pause_s=1.0, started_at=datetime.now(UTC) - timedelta(seconds=1.5), window=30
    )
    with make_capture(origin) as capture:
        events = take(capture)
        origin.skip(2.0)
        events += take_until(capture, origin.start_of(7))
    check_order(events)
    truth = dates_at(origin, pieces, video_packets)
    assert count_right(dates_of(segments_in(events), video_packets), truth) >= 2 * 24
    [gap] = [event for event in events if isinstance(event, Gap)]
    assert abs(gap.start - origin.start_of(5) - timedelta(seconds=0.5)) <= MILLISECOND
    assert abs(gap.end - origin.start_of(6)) <= MILLISECOND


@pytest.mark.parametrize("engine", ["ffmpeg"])
def test_jump_is_known_also_where_many_pieces_were_finished_since_the_last_look(
    make_origin, make_capture: MakeCapture, video_packets, pieces: Path, until, monkeypatch
) -> None:
    """As under load: the log was read before the jump, the pieces listed after it."""
    origin = make_origin(
        pause_s=1.0, started_at=datetime.now(UTC) - timedelta(seconds=1.5), window=30
    )
    listed = Recording.pieces
    after_the_jump = len(list(pieces.glob("*.ts"))) + 2

    def late(recording: Recording, run: str) -> list[Path]:
        if recording.last is None:
            until(lambda: len(listed(recording, run)) >= after_the_jump, what="the pieces")
        return listed(recording, run)

    monkeypatch.setattr(Recording, "pieces", late)
    with make_capture(origin) as capture:
        events = take(capture, after_the_jump)
    truth = dates_at(origin, pieces, video_packets)
    assert count_right(dates_of(segments_in(events), video_packets), truth) >= 3 * 24
    assert [type(event) for event in events].count(Gap) == 1


class Anew(Packaging):
    """Each segment's timestamps begin where those of the clip do."""

    def __init__(self, origin: LiveOrigin) -> None:
        self._origin = origin

    def segment(self, path: str, reply: Reply) -> Reply:
        index = int(path[-9:-3])
        before_s = self._origin.start_of(index % self._origin.n_pieces) - self._origin.started_at
        return replace(reply, body=move_timestamps(reply.body, -before_s.total_seconds()))


@pytest.mark.parametrize("engine", ["ffmpeg"])
def test_timestamps_that_begin_anew_in_each_segment_lose_nothing(
    make_origin, make_capture: MakeCapture, video_packets, pieces: Path
) -> None:
    """ffmpeg has opened later segments by the time that it reports the first jump."""
    origin = make_origin(window=30)
    origin.pack(Anew(origin))
    with make_capture(origin) as capture:
        events = take(capture, 1)
        origin.skip(2.0)
        events += take(capture, 4)
    check_order(events)
    assert len(events) == 5
    truth = dates_at(origin, pieces, video_packets)
    assert count_right(dates_of(events, video_packets), truth) == 5 * 12
    assert not any(segment.start_is_estimated for segment in events)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(on="segment", one_segment=True, status=500), id="500"),
        pytest.param(Fault(on="segment", one_segment=True, reset=True), id="reset"),
        pytest.param(Fault(on="segment", one_segment=True, body=b""), id="empty"),
    ],
)
def test_frames_have_their_dates_also_where_the_first_segment_can_not_be_read(
    make_origin, make_capture: MakeCapture, video_packets, pieces: Path, fault: Fault
) -> None:
    """ffmpeg continues with the second one without a message."""
    origin = make_origin(window=3)
    origin.inject(fault)
    with make_capture(origin) as capture:
        events = take(capture, 3)
    truth = dates_at(origin, pieces, video_packets)
    assert count_right(dates_of(segments_in(events), video_packets), truth) >= 24
    assert not any(segment.start_is_estimated for segment in segments_in(events)[:1])


def test_without_dates_the_time_of_arrival_is_taken_and_marked(
    make_origin, make_capture: MakeCapture
) -> None:
    before = datetime.now(UTC)
    with make_capture(make_origin(dated=False), duration_s=1.0) as capture:
        events = list(capture)
    check_order(events)
    assert all(s.start_is_estimated for s in segments_in(events))
    assert abs(events[0].start - before) < timedelta(minutes=1)


def test_a_duration_is_kept_by_the_clock_of_the_source(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    with make_capture(origin, duration_s=2.0) as capture:
        events = list(capture)
        assert capture.finished
        assert capture.get(0.0) is None
    check_order(events)
    assert events[-1].end - events[0].start == timedelta(seconds=2)
    assert capture.state == f"ended, {len(events)} segments"
    assert (capture.restarts, capture.last_error, capture.failure) == (0, None, None)


@pytest.mark.parametrize("engine", ["ffmpeg"])
def test_at_the_end_the_last_piece_is_finished_and_reported(
    origin: LiveOrigin, make_capture: MakeCapture, until
) -> None:
    # Longer than the test, so that ffmpeg closes no segment.
    with make_capture(origin, segment_s=60.0) as capture:
        until(lambda: str(list(origin.requests)).count("segment-") >= 3, what="a second segment")
        capture._plan._until = datetime.now(UTC)
        [segment] = list(capture)
    assert segment.duration_s >= 0.4
    assert segment.path.stat().st_size > 0


def test_stopping_leaves_what_was_finished(origin: LiveOrigin, make_capture: MakeCapture) -> None:
    with make_capture(origin) as capture:
        events = take(capture, 2)
        capture.stop()
        events += list(capture)
        assert capture.finished
    check_order(events)
    pieces = sorted(path.name for path in events[0].path.parent.glob("*.ts"))
    assert [event.path.name for event in events] == pieces


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("engine", ["ffmpeg"])
def test_an_ffmpeg_that_is_killed_is_started_again_and_nothing_is_lost(
    make_origin, make_capture: MakeCapture, tmp_path: Path
) -> None:
    with make_capture(make_origin(window=30), stream=None) as capture:
        events = take(capture, 2)
        keeper = json.loads((tmp_path / "rec" / "ffmpeg.pid").read_text())["pid"]
        [tool] = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        subprocess.run(["kill", "-9", tool], check=True)
        events += take(capture, 3)
        assert capture.restarts == 1
        assert "137" in str(capture.last_error)
    check_order(events)
    assert all(isinstance(event, Segment) for event in events)


def test_what_the_source_no_longer_lists_is_a_gap_that_says_why(
    make_origin, make_capture: MakeCapture, engine: str
) -> None:
    origin = make_origin()
    with make_capture(origin, stall_s=2.0) as capture:
        events = take(capture, 2)
        origin.inject(Fault(status=503))
        # With ffmpeg, only the next run detects it.
        until(
            lambda: (
                any(each.status == 503 for each in origin.requests)
                and (engine == "hls" or "503" in str(capture.last_error))
            ),
            what="the error",
        )
        origin.list_only(2)
        origin.skip(3.0)
        origin.heal()
        while not any(isinstance(event, Gap) for event in events):
            events += take(capture)
        origin.list_only(30)
        events += take_until(capture, origin.start_of(origin.published))
    check_order(events)
    [gap] = [event for event in events if isinstance(event, Gap)]
    assert "503" in gap.why
    assert gap.end - gap.start >= timedelta(seconds=1)


@pytest.mark.parametrize("engine", ["hls"], indirect=True)  # ffmpeg would not be stopped with us
def test_what_was_missed_while_the_process_was_stopped_is_not_put_down_to_the_source(
    make_origin: Callable[..., LiveOrigin],
    make_capture: MakeCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suspension, "SUSPENDED_S", 2.0)
    origin = make_origin()
    with make_capture(origin, stall_s=3.5) as capture:
        events = take(capture, 2)
        wakes = f"sleep 4; kill -CONT {os.getpid()}"
        waker = subprocess.Popen(["/bin/sh", "-c", wakes])
        origin.list_only(2)
        os.kill(os.getpid(), signal.SIGSTOP)
        waker.wait()
        while not any(isinstance(event, Gap) for event in events):
            events += take(capture)
    # On a busy machine it may run only once.
    whys = {event.why for event in events if isinstance(event, Gap)}
    assert all(why.startswith("this process did not run for ") for why in whys)
    assert capture.restarts == 0
    check_order(events)


def test_a_show_that_ends_and_stays_ended_ends_the_capture(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    with make_capture(origin, ended_after_s=0.5) as capture:
        events = take(capture, 2)
        origin.end()
        events += list(capture)
    check_order(events)
    assert capture.failure is None
    assert isinstance(capture.last_error, NotLive)


def test_an_outage_at_the_end_is_a_gap(origin: LiveOrigin, make_capture: MakeCapture) -> None:
    with make_capture(origin) as capture:
        events = take(capture, 2)
        origin.stop()
        capture._plan._until = datetime.now(UTC) + timedelta(seconds=1.5)
        events += list(capture)
    check_order(events)
    assert isinstance(events[-1], Gap)
    assert events[-1].end - events[-1].start > timedelta(seconds=0.5)


WATCHER = """
import sys
from pathlib import Path
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.supervisor.capture import Capture

policy = AddressPolicy(allow_networks=LOOPBACK)
with Capture(
    sys.argv[1],
    directory=Path(sys.argv[2]),
    channel="demo",
    broadcast=1,
    policy=policy,
    segment_s=0.5,
    engine=sys.argv[3],
) as capture:
    for event in capture:
        print(event.sequence, flush=True)
"""


@pytest.fixture
def killed_watcher(origin: LiveOrigin, tmp_path: Path, engine: str) -> Iterator[Path]:
    """The directory of a watcher killed by SIGKILL in the middle of a segment."""
    directory = tmp_path / "rec"
    command = [sys.executable, "-c", WATCHER, origin.url, str(directory), engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
        assert watcher.stdout is not None
        for _ in range(3):
            assert watcher.stdout.readline()
        watcher.send_signal(signal.SIGKILL)
    yield directory
    wait_until_no_ffmpeg(directory)


def is_ffmpeg_for(directory: Path, cmdline: Path) -> bool:
    try:
        return str(directory).encode() in cmdline.read_bytes()
    except OSError:
        return False


def wait_until_no_ffmpeg(directory: Path) -> None:
    def is_gone() -> bool:
        lines = Path("/proc").glob("[0-9]*/cmdline")
        return not any(is_ffmpeg_for(directory, each) for each in lines)

    until(is_gone, what="the end of its ffmpeg")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_a_killed_watcher_leaves_no_ffmpeg_and_the_next_continues(
    origin: LiveOrigin, make_capture: MakeCapture, killed_watcher: Path, later: bool
) -> None:
    if later:
        wait_until_no_ffmpeg(killed_watcher)
        origin.list_only(6)
        origin.skip(4.0)
    events = list(recover(killed_watcher, channel="demo", broadcast=1))
    assert len(segments_in(events)) >= 3
    with make_capture(origin) as capture:
        events += take(capture, 3)
    check_order(events)
    starts = [segment.start for segment in segments_in(events)]
    assert all(a < b for a, b in pairwise(starts))
    gaps = [event for event in events if isinstance(event, Gap)]
    if later:
        assert [gap.why for gap in gaps] == ["nothing was recording"]
    assert list(recover(killed_watcher, channel="demo", broadcast=1))[: len(events)] == events


def test_a_directory_is_recorded_to_by_one(origin: LiveOrigin, make_capture: MakeCapture) -> None:
    with make_capture(origin) as capture:
        take(capture)
        with pytest.raises(CaptureFailed, match="is recording"), make_capture(origin):
            pass


def test_without_room_on_the_disk_nothing_is_started(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    with make_capture(origin, min_free_bytes=1 << 60) as capture, pytest.raises(DiskFull):
        list(capture)
    assert not list(origin.requests)


def fails_with(capture: Capture) -> CaptureError:
    with capture, pytest.raises(CaptureError) as caught:
        list(capture)
    assert capture.failure is caught.value
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_source_that_is_unavailable_at_the_start_is_an_error(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    origin.stop()
    assert isinstance(fails_with(make_capture(origin, stream=None)), SourceUnreachable)


def test_a_show_that_has_ended_already_is_an_error(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    origin.end()
    assert isinstance(fails_with(make_capture(origin)), NotLive)


def test_a_source_with_long_segments_has_not_stalled_between_two(
    origin: LiveOrigin, make_capture: MakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_STEPS", 2.0)
    listed = origin.playlist
    monkeypatch.setattr(
        origin, "playlist", lambda: listed().replace("TARGETDURATION:1\n", "TARGETDURATION:20\n")
    )
    with make_capture(origin, stall_s=0.05) as capture:
        take(capture, 3)
        assert capture.restarts == 0


def test_a_source_that_sends_no_media_is_given_up(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    origin.inject(Fault(on="segment", body=b"<html>sorry</html>"))
    failure = fails_with(make_capture(origin, stall_s=0.8))
    assert isinstance(failure, CaptureFailed)
    assert "nothing could be recorded" in str(failure)


def test_a_playlist_that_leads_inwards_is_refused(
    origin: LiveOrigin, make_capture: MakeCapture
) -> None:
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://10.0.0.1/secret.ts\n"
    origin.inject(Fault(on="playlist", body=playlist))
    assert isinstance(fails_with(make_capture(origin)), UnsafeURL)


def test_a_fault_of_ours_ends_a_run_and_not_the_watch(
    origin: LiveOrigin, make_capture: MakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, broken = Recording.add, iter([True])

    def fail_once(self: Recording, *arguments: object, **values: object) -> object:
        if self.last is not None and next(broken, False):
            raise OverflowError("date value out of range")
        return add(self, *arguments, **values)

    monkeypatch.setattr(Recording, "add", fail_once)
    with make_capture(origin) as capture:
        take(capture, 4)
    assert next(broken, None) is None
    assert capture.failure is None
