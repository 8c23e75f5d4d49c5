"""Segments to rows, as the watcher takes them: failures, gaps, falling behind, going on."""

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db import queries, writes
from emotion.pipeline import Analyser, Linker
from emotion.weights import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.analyse import Analysis, networks, take_for
from flows.audience import Audience
from flows.capture.process import find_ffmpeg
from flows.capture.segment import Gap, Segment
from flows.demo.programme import make_programme
from flows.pace import Pace
from flows.store import Store

START = datetime(2026, 11, 1, 19, tzinfo=UTC)
LOG = logging.getLogger("test")


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five one-second MPEG-TS segments of the demo programme."""
    folder = tmp_path_factory.mktemp("pieces")
    clip = make_programme(folder / "clip.mp4", duration_s=5)
    arguments = ["-an", "-c:v", "libx264", "-g", "25", "-f", "segment", "-segment_time", "1"]
    subprocess.run(
        [find_ffmpeg(), "-v", "error", "-i", str(clip), *arguments, str(folder / "%d.ts")],
        check=True,
    )
    found = sorted(folder.glob("*.ts"))
    assert len(found) == 5
    return found


@pytest.fixture
def segments(pieces: list[Path]) -> list[Segment]:
    for path in pieces:
        os.utime(path)
    return [
        Segment(
            channel="news",
            broadcast=1,
            sequence=number,
            start=START + timedelta(seconds=number),
            start_is_estimated=False,
            duration_s=1.0,
            path=path,
            width_px=640,
            height_px=360,
        )
        for number, path in enumerate(pieces)
    ]


@pytest.fixture(scope="module")
def analyser() -> Analyser:
    return networks(DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, "cpu", None, 640)


@pytest.fixture
def analysis(engine: Engine, analyser: Analyser) -> Analysis:
    with engine.begin() as connection:
        channel = writes.ensure_channel(connection, "news", "https://example.com/")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=START)
    store = Store(engine=engine, channel_id=channel, broadcast_id=broadcast, model=analyser.model)
    return Analysis(analyser=analyser, linker=Linker(None), store=store, fps=5.0, log=LOG)


def rows(engine: Engine, sql: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def take_fresh(analysis: Analysis, segment: Segment) -> None:
    """Take a segment whose file was finished just now, so that it is not late."""
    os.utime(segment.path)
    analysis.take(segment)
    analysis.pace = Pace()  # however slow this machine is


OBSERVATIONS = "SELECT * FROM observations ORDER BY ts, track_id"


def test_truncated_segment_is_stored_as_failed_and_the_show_goes_on(
    analysis: Analysis, segments: list[Segment], engine: Engine, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.ts"
    cut.write_bytes(b"")
    analysis.take(segments[0])
    analysis.take(replace(segments[1], path=cut))
    analysis.take(segments[2])
    found = rows(engine, "SELECT status, error IS NOT NULL FROM segments ORDER BY started_at")
    assert found == [("analysed", False), ("failed", True), ("analysed", False)]
    assert (analysis.counts.segments, analysis.counts.failed) == (2, 1)
    ((error,),) = rows(engine, "SELECT error FROM segments WHERE status = 'failed'")
    assert "cut.ts" in str(error)


def test_gap_is_a_row_with_its_reason(analysis: Analysis, engine: Engine) -> None:
    analysis.take(Gap(start=START, end=START + timedelta(seconds=3), why="the source stalled"))
    assert rows(engine, "SELECT why FROM gaps") == [("the source stalled",)]


def test_watcher_that_dies_goes_on_with_the_same_tracks(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    for segment in segments:
        take_fresh(analysis, segment)
    whole = rows(engine, OBSERVATIONS)
    assert whole
    for segment in segments[:2]:  # again from the beginning, up to where it died
        analysis.linker = Linker(None) if segment.sequence == 0 else analysis.linker
        take_fresh(analysis, segment)
    with engine.connect() as connection:
        state = queries.tracker_state_before(
            connection, analysis.store.broadcast_id, segments[2].start
        )
    analysis.linker = Linker(json.loads(json.dumps(state)))
    for segment in segments[2:]:
        take_fresh(analysis, segment)
    assert rows(engine, OBSERVATIONS) == whole


def test_segment_that_begins_inside_its_file_takes_only_what_is_its_own(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    take_fresh(analysis, segments[1])
    whole = rows(engine, "SELECT ts FROM observations ORDER BY ts")
    half = timedelta(seconds=0.5)
    trimmed = replace(segments[1], start=segments[1].start + half, duration_s=0.5, offset_s=0.5)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM observations"))
        connection.execute(text("DELETE FROM segments"))
    analysis.linker = Linker(None)
    take_fresh(analysis, trimmed)
    kept = rows(engine, "SELECT ts FROM observations ORDER BY ts")
    assert kept
    assert kept == [row for row in whole if row[0] >= trimmed.start]  # type: ignore[operator]


def test_falling_behind_takes_fewer_frames_and_says_so(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    long_ago = time.time() - 60
    for segment in segments[:4]:  # late for certain, on however fast a machine
        os.utime(segment.path, (long_ago, long_ago))
        analysis.take(segment)
    found = rows(engine, "SELECT analysed_fps, frames_analysed FROM segments ORDER BY started_at")
    assert [fps for fps, _ in found] == [5.0, 2.5, 1.0, 1.0]
    assert [n for _, n in found] == [5, 3, 1, 1]  # of a second with one keyframe


def test_a_segment_analysed_again_has_all_frames_and_the_same_rows(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    def take_all() -> None:
        for segment in segments:
            take_fresh(analysis, segment)

    take_all()
    whole = rows(engine, OBSERVATIONS)
    state = analysis.linker.state
    analysis.linker, analysis.pace = Linker(None), Pace()
    for segment in segments:
        os.utime(segment.path, (time.time() - 3600,) * 2)
        analysis.take(segment)
    assert len(rows(engine, OBSERVATIONS)) < len(whole)
    analysis.linker, analysis.pace = Linker(None), Pace()
    take_all()
    assert rows(engine, OBSERVATIONS) == whole
    assert analysis.linker.state == state
    assert rows(engine, "SELECT DISTINCT analysed_fps FROM segments") == [(5.0,)]


def test_the_next_segment_is_begun_before_this_one_is_finished(
    analysis: Analysis, segments: list[Segment]
) -> None:
    begun = []

    class Watched(Audience):
        def took(self, item: object, observations: object, counts: object) -> None:
            begun.append(analysis.n_begun)

    analysis.audience = Watched()
    take_for(analysis, Listed(list(segments)))
    assert begun == [1, 1, 1, 1, 0]


def test_what_was_begun_when_a_watch_was_stopped_is_finished_by_the_next_call(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    class Stops(Audience):
        def took(self, item: object, observations: object, counts: object) -> None:
            raise KeyboardInterrupt

    analysis.audience = Stops()
    source = Listed(list(segments))
    with pytest.raises(KeyboardInterrupt):
        take_for(analysis, source)
    analysis.audience = Audience()
    take_for(analysis, source)
    assert rows(engine, "SELECT count(*) FROM segments WHERE status = 'analysed'") == [(5,)]


class Listed:
    """A source whose items are known beforehand."""

    def __init__(self, items: list[Segment | Gap]) -> None:
        self._items: Iterator[Segment | Gap] = iter(items)
        self.finished = False

    def get(self, timeout_s: float) -> Segment | Gap | None:
        item = next(self._items, None)
        self.finished = item is None
        return item


def test_all_that_a_source_brings_is_taken_in_order(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    take_for(analysis, Listed(list(segments)))
    assert rows(engine, "SELECT sequence FROM segments ORDER BY started_at") == [
        (n,) for n in range(5)
    ]
    assert analysis.counts.newest == segments[-1].end
    lags = rows(engine, "SELECT lag_ms FROM segments")
    assert all(isinstance(lag, int) and lag > 0 for (lag,) in lags)


def test_segment_that_a_signal_cut_off_is_taken_again_with_the_same_tracks(
    analysis: Analysis,
    segments: list[Segment],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pace, "update", lambda *_: False)  # however slow this machine is
    for segment in segments:
        analysis.take(segment)
    whole = rows(engine, OBSERVATIONS)
    analysis.linker = Linker(None)
    analysis.take(segments[0])
    stored = Store.analysed

    def cut_off(*_: object, **__: object) -> None:
        monkeypatch.setattr(Store, "analysed", stored)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "analysed", cut_off)
    analysis.begin(segments[1])
    analysis.begin(segments[2])
    with pytest.raises(KeyboardInterrupt):
        analysis.finish()
    while analysis.n_begun:
        analysis.finish()
    for segment in segments[3:]:
        analysis.take(segment)
    assert rows(engine, OBSERVATIONS) == whole


def test_what_there_is_no_time_for_is_stored_as_recorded(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    analysis.take(segments[0])
    analysis.begin(segments[1])  # and cut off
    gap = Gap(start=segments[3].start, end=segments[3].end, why="the source stalled")
    assert analysis.leave(Listed([segments[2], gap])) == 3
    found = rows(engine, "SELECT sequence, status, path FROM segments ORDER BY started_at")
    assert found == [
        (0, "analysed", str(segments[0].path)),
        (1, "recorded", str(segments[1].path)),
        (2, "recorded", str(segments[2].path)),
    ]
    assert rows(engine, "SELECT why FROM gaps") == [("the source stalled",)]
    assert analysis.n_begun == 0
