"""A clip starts at the keyframe before, with video and audio in sync."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from flows.errors import UsageError
from flows.recordings.clip import clip
from flows.recordings.remux import Cut

FRAME_S = 1 / 24
TOGETHER_S = 0.045
"""A frame, as which a beep can't be nearer to a flash."""


@pytest.fixture
def cut(engine, recordings_dir: Path, tmp_path: Path):
    def make(show, begin_s: float, end_s: float, **other: object) -> list[Cut]:
        start = show.segments[0].start
        return clip(
            engine,
            show.slug,
            start + timedelta(seconds=begin_s),
            start + timedelta(seconds=end_s),
            tmp_path / "clip.mp4",
            recordings_dir=recordings_dir,
            **other,
        )

    return make


def is_whole(seen, duration_s: float) -> None:
    """Assert that content is complete without duplicates, and audio and video end together."""
    steps = [b - a for a, b in pairwise(seen.frame_s)]
    assert all(step == pytest.approx(FRAME_S, abs=0.005) for step in steps)
    assert seen.frame_s[-1] + FRAME_S == pytest.approx(duration_s, abs=2.5 * FRAME_S)
    assert seen.audio_s == pytest.approx(duration_s, abs=2.5 * FRAME_S)


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_a_clip_across_segments_starts_at_the_keyframe_before(
    air, record, cut, watch, kind
) -> None:
    show = record(air(kind), (0, 16))
    [done] = cut(show, 1.8, 6.3)
    assert (done.begin - show.segments[0].start).total_seconds() == pytest.approx(1.5, abs=0.002)
    assert done.duration_s == pytest.approx(4.8, abs=0.002)
    seen = watch(done.path)
    is_whole(seen, 4.8)
    # The beep of second 2, half a second after the keyframe at 1.5 s.
    assert seen.flash == pytest.approx({k: k - 1.5 for k in range(2, 7)}, abs=0.005)
    assert len(seen.beep) == 5
    assert [a - b for a, b in zip(seen.beep, seen.flash.values(), strict=True)] == pytest.approx(
        [0] * 5, abs=TOGETHER_S
    )


def test_two_clips_of_the_same_time_can_be_cut_simultaneously(air, record, cut, watch) -> None:
    show = record(air("ts"), (0, 16))
    with ThreadPoolExecutor(4) as workers:
        done = list(workers.map(lambda _: cut(show, 1.8, 6.3, force=True), range(4)))
    assert {each.path for [each] in done} == {done[0][0].path}
    is_whole(watch(done[0][0].path), 4.8)
    assert not list(done[0][0].path.parent.glob(".*.part"))


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_a_gap_is_skipped_and_reported(air, record, cut, watch, kind) -> None:
    show = record(air(kind), (0, 5), (9, 16))
    [done] = cut(show, 0, 8)
    [(begin, end, why)] = done.gaps
    start = show.segments[0].start
    assert ((begin - start).total_seconds(), (end - start).total_seconds()) == (2.5, 4.5)
    assert why
    seen = watch(done.path)
    is_whole(seen, 6.0)
    assert done.duration_s == pytest.approx(6.0, abs=0.002)
    assert seen.flash == pytest.approx({0: 0, 1: 1, 2: 2, 5: 3, 6: 4, 7: 5}, abs=0.005)
    pairs = zip(seen.beep, seen.flash.values(), strict=True)
    assert all(abs(beep - flash) < TOGETHER_S for beep, flash in pairs)


def test_another_picture_size_is_cut_into_another_file(air, record, cut, watch) -> None:
    show = record(air("ts"), (0, 4))
    record(air("large"), (4, 8), show=show)
    first, second = cut(show, 0, 4)
    assert (first.width_px, second.width_px) == (48, 64)
    assert second.path.name == "clip-2.mp4"
    assert list(watch(first.path).flash) == [0, 1]
    assert list(watch(second.path).flash) == [2, 3]


def test_segments_without_analysis_are_cut_too(air, open_show, capture_of, cut, watch) -> None:
    show, channel = open_show(status="live"), air("ts")
    with capture_of(show, channel) as capture:
        show.events.append(capture.get(60.0))
        channel.end = 6
        for _ in range(5):
            show.events.append(capture.get(60.0))
        [done] = cut(show, 1, 60)
    assert done.duration_s == pytest.approx(2.0, abs=0.002)
    is_whole(watch(done.path), 2.0)


def test_a_clip_that_cannot_be_cut_is_a_one_line_error(
    air, record, cut, engine, tmp_path: Path
) -> None:
    show = record(air("ts"), (0, 2))
    (tmp_path / "clip.mp4").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        cut(show, 0, 1)
    [done] = cut(show, 0, 1, force=True)
    assert done.path.stat().st_size > 1000
    with pytest.raises(UsageError, match="must end after it begins"):
        cut(show, 1, 1)
    with pytest.raises(
        UsageError, match=r"nothing was recorded then; the last before it ends 2026"
    ):
        cut(show, 60, 61, force=True)
    shutil.rmtree(show.folder)
    with pytest.raises(UsageError, match="the recording is gone"):
        cut(show, 0, 1, force=True)
    assert not list(tmp_path.glob(".*.part"))
