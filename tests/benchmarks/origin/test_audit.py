"""The audit finds missing and duplicate parts of a recording."""

from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.origin.audit import Audit, read_frames
from benchmarks.origin.fragments import fragmented
from flows.capture.segment import Gap, Segment
from flows.demo.channel import LiveOrigin
from flows.demo.mpegts import move_timestamps

PIECE_S = 0.5


@pytest.fixture
def on_air(card: dict[str, Path], clock) -> LiveOrigin:
    """Eight published segments."""
    made = LiveOrigin(card[""], started_at=clock(), loop=False, clock=clock)
    clock.passed_s = 60.0
    return made


def recorded(show: LiveOrigin, *indices: int) -> list[Segment | Gap]:
    return [
        Segment(
            channel="card",
            broadcast=1,
            sequence=n,
            start=show.start_of(index),
            start_is_estimated=False,
            duration_s=PIECE_S,
            path=show.piece_at(index).path,
            width_px=0,
            height_px=0,
        )
        for n, index in enumerate(indices)
    ]


def test_no_two_frames_are_alike(on_air: LiveOrigin) -> None:
    frames = [f.digest for n in range(8) for f in read_frames(on_air.piece_at(n).path)]
    assert len(frames) == len(set(frames)) == 4 * 24


def test_frames_are_known_in_another_container(on_air: LiveOrigin, tmp_path: Path) -> None:
    known = [frame.digest for frame in read_frames(on_air.piece_at(3).path)]
    path = tmp_path / "3.mp4"
    path.write_bytes(b"".join(fragmented(on_air.bytes_of(3))))
    assert [frame.digest for frame in read_frames(path)] == known


def test_all_that_was_on_air_is_recorded_once_at_its_date(on_air: LiveOrigin) -> None:
    account = Audit(on_air).of_events(recorded(on_air, *range(8)), end=8)
    assert (account.first, account.end) == (0, 8)
    assert account.shown_s == pytest.approx(4.0)
    assert (account.lost_s, account.repeated_s, account.silent_s) == (0, 0, 0)
    assert account.date_error_s < 0.001


@pytest.mark.parametrize("told", [False, True])
def test_what_is_missing_is_lost_and_silently_if_no_gap_says_so(
    on_air: LiveOrigin, told: bool
) -> None:
    events = recorded(on_air, 0, 1, 3, 5)
    if told:
        starts = [on_air.start_of(n) for n in (2, 4)]
        events += [Gap(start=s, end=s + timedelta(seconds=PIECE_S), why="lost") for s in starts]
    account = Audit(on_air).of_events(events)
    assert account.lost_s == pytest.approx(1.0)
    assert account.silent_s == pytest.approx(0.0 if told else 1.0)
    assert account.gaps_s == pytest.approx(1.0 if told else 0.0)
    assert Audit(on_air).of_events(events, end=8).lost_s == pytest.approx(2.0)


def test_duplicates_are_counted(on_air: LiveOrigin) -> None:
    account = Audit(on_air).of_events(recorded(on_air, 0, 1, 1, 2))
    assert account.repeated_s == pytest.approx(PIECE_S)
    files = [on_air.piece_at(n).path for n in (0, 1, 1, 3)]
    account = Audit(on_air).of_files(files)
    assert (account.repeated_s, account.lost_s) == pytest.approx((PIECE_S, PIECE_S))


def test_a_wrong_date_is_reported(on_air: LiveOrigin) -> None:
    events = recorded(on_air, 0, 1)
    right = events[1]
    assert isinstance(right, Segment)
    late = {name: getattr(right, name) for name in Segment.__slots__}
    late["start"] += timedelta(seconds=3)
    account = Audit(on_air).of_events([events[0], Segment(**late)])
    assert account.date_error_s == pytest.approx(3.0, abs=0.001)


@pytest.mark.parametrize("by_s", [100.0, -3600.0, 95_000.0])
def test_timestamps_are_moved_and_the_frames_stay(
    on_air: LiveOrigin, tmp_path: Path, by_s: float
) -> None:
    path = on_air.piece_at(3).path
    moved = tmp_path / "moved.ts"
    moved.write_bytes(move_timestamps(path.read_bytes(), by_s))
    assert moved.read_bytes() != path.read_bytes()
    assert [f.digest for f in read_frames(moved)] == [f.digest for f in read_frames(path)]
    assert move_timestamps(moved.read_bytes(), -by_s) == path.read_bytes()
