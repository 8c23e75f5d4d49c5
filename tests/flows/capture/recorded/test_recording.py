import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.clock import Clock, Section
from flows.capture.recorded.media import TICKS_PER_S, measure
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.recovery import recover
from flows.capture.recorded.runs import save_clock
from flows.capture.segment import CaptureFailed, Gap, Segment

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PIECE = timedelta(seconds=0.5)


def recover_all(directory: Path, after: int = -1) -> list[Segment | Gap]:
    return list(recover(directory, channel="demo", broadcast=3, after=after))


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "rec", channel="demo", broadcast=3)


@pytest.fixture
def put(pieces: Path):
    """Add a segment to a run of the recording, dated `at` seconds after noon."""

    def make(recording: Recording, run: str, number: int, at: float) -> tuple[Path, Clock]:
        path = recording.directory / f"{run}-{number:06d}.ts"
        shutil.copy(pieces / "piece-00001.ts", path)
        date = NOON + timedelta(seconds=at)
        section = Section(date=date, estimated=False, input=0)
        clock = Clock([section], measure(path).first)
        save_clock(recording.directory, run, clock)
        return path, clock

    return make


def test_segments_are_contiguous(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    events = [e for i in range(3) for e in recording.take(*put(recording, run, i, i * 0.5))]
    assert [e.sequence for e in events] == [0, 1, 2]
    assert [e.start - NOON for e in events] == [timedelta(0), PIECE, 2 * PIECE]
    assert [e.end - NOON for e in events] == [PIECE, 2 * PIECE, 3 * PIECE]
    assert (events[0].channel, events[0].broadcast, events[0].width_px) == ("demo", 3, 320)


def test_a_picture_is_held_as_long_as_there_is_sound(recording: Recording) -> None:
    run = recording.new_run(NOON)
    path = recording.directory / f"{run}-000000.ts"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "color=size=32x32:rate=1:d=1"]
    command += ["-f", "lavfi", "-i", "sine=d=1", "-c:v", "libx264", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    clock = Clock([Section(date=NOON, estimated=False, input=0)])
    [segment] = recording.take(path, clock, ticks=TICKS_PER_S)
    assert segment.duration_s == 1.0


def test_missing_time_is_a_gap_with_its_reason(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    recording.take(*put(recording, run, 0, 0))
    gap, segment = recording.take(*put(recording, run, 1, 4), why="the source was away")
    assert gap == Gap(start=NOON + PIECE, end=NOON + 8 * PIECE, why="the source was away")
    assert segment.sequence == 1


def test_an_already_recorded_segment_is_deleted(recording: Recording, put) -> None:
    recording.take(*put(recording, recording.new_run(NOON), 0, 0))
    path, clock = put(recording, recording.new_run(NOON), 0, 0.02)
    assert recording.take(path, clock) == []
    assert not path.exists()


def test_an_overlapping_segment_begins_at_the_end_of_the_last(recording: Recording, put) -> None:
    recording.take(*put(recording, recording.new_run(NOON), 0, 0))
    path, clock = put(recording, recording.new_run(NOON), 0, 0.2)
    [segment] = recording.take(path, clock)
    assert (segment.start, segment.end) == (NOON + PIECE, NOON + timedelta(seconds=0.7))
    assert segment.offset_s == pytest.approx(0.3)


def test_a_source_that_sets_its_clock_back_continues_as_estimated(
    recording: Recording, put
) -> None:
    run = recording.new_run(NOON)
    recording.take(*put(recording, run, 0, 0))
    path, clock = put(recording, run, 1, -3600)
    [segment] = recording.take(path, clock)
    assert (segment.start, segment.start_is_estimated) == (NOON + PIECE, True)


def test_the_duration_is_ffmpeg_s_unless_frames_are_missing(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    path, clock = put(recording, run, 0, 0)
    [segment] = recording.take(path, clock, ticks=round(0.51 * 90_000))
    assert segment.duration_s == pytest.approx(0.51)
    path, clock = put(recording, run, 1, 0.51)
    [segment] = recording.take(path, clock, ticks=round(1.5 * 90_000))
    assert segment.duration_s == pytest.approx(0.5)


def test_without_a_clock_the_time_of_arrival_is_used(recording: Recording, put) -> None:
    path, _ = put(recording, recording.new_run(NOON), 0, 0)
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    [segment] = recording.take(path, Clock())
    assert (segment.start, segment.start_is_estimated) == (NOON - PIECE, True)


def test_segments_are_recovered_whether_reported_or_not(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    reported = recording.take(*put(recording, run, 0, 0))
    for i in (1, 2):
        put(recording, run, i, 0)
    unfinished = recording.directory / f"{run}-000003.ts.tmp"
    unfinished.write_bytes(b"half")
    # The clock is the run's: it dates all its pieces by their timestamps, here the same.
    events = recover_all(recording.directory)
    assert events == reported
    assert not unfinished.exists()

    other = recording.new_run(NOON)
    put(recording, other, 0, 2)
    gap, segment = recover_all(recording.directory)[-2:]
    assert isinstance(gap, Gap)
    assert (segment.sequence, segment.start) == (1, NOON + 4 * PIECE)
    assert recover_all(recording.directory) == [*reported, gap, segment]
    assert recover_all(recording.directory, after=0) == [gap, segment]
    assert recover_all(recording.directory, after=1) == []


def test_a_file_that_was_deleted_keeps_its_number(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    [first] = recording.take(*put(recording, run, 0, 0))
    first.path.unlink()
    assert recover_all(recording.directory) == []
    again = Recording(recording.directory, channel="demo", broadcast=3)
    [second] = again.take(*put(again, again.new_run(NOON), 0, 0.5))
    assert second.sequence == 1


def test_an_incomplete_line_is_written_again(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    events = [e for i in range(2) for e in recording.take(*put(recording, run, i, i * 0.5))]
    journal = recording.directory / "events.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert recover_all(recording.directory) == events


def test_nothing_is_recovered_from_an_empty_folder(tmp_path: Path) -> None:
    assert recover_all(tmp_path) == []
    assert recover_all(tmp_path / "missing") == []


def test_a_file_that_is_not_media_is_skipped(recording: Recording, put) -> None:
    run = recording.new_run(NOON)
    put(recording, run, 0, 0)
    (recording.directory / f"{run}-000001.ts").write_bytes(b"no media")
    assert [type(e) for e in recover_all(recording.directory)] == [Segment]


def test_a_recording_in_progress_is_not_changed(recording: Recording) -> None:
    from flows.capture.processes import _birth

    record = (
        f'{{"pid": 1, "born": null, "owner": {os.getpid()}, "owner_born": "{_birth(os.getpid())}"}}'
    )
    recording.pid_file.write_text(record)
    with pytest.raises(CaptureFailed, match=f"process {os.getpid()} is recording"):
        recover_all(recording.directory)


@pytest.mark.parametrize("said", [b"", bytes(300), b'{"clock": {"first": "x", "sections": 3}}'])
def test_a_run_whose_clock_is_lost_is_recovered_with_estimated_dates(
    recording: Recording, put, said: bytes
) -> None:
    run = recording.new_run(NOON)
    path, _ = put(recording, run, 0, 0)
    (recording.directory / f"{run}.log").touch()
    (recording.directory / f"{run}.json").write_bytes(said)
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))
    [segment] = recover_all(recording.directory)
    assert (segment.start, segment.start_is_estimated) == (NOON - PIECE, True)
