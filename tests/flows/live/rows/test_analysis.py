"""Analysis of a watcher's segments: failures, gaps, lag, restarts."""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db.reading import queries
from db.writing import writes
from emotion.ahead import Prefetcher
from emotion.pipeline import Analyser, Linker
from emotion.types import Detections
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.segment import Gap, Segment
from flows.live.rows.analysis import Analysis, Counts, networks, take_for
from flows.live.rows.observers import Observer
from flows.live.rows.pace import Pace
from flows.live.rows.store import Store

START = datetime(2026, 11, 1, 19, tzinfo=UTC)
LOG = logging.getLogger("test")


@pytest.fixture(scope="module")
def pieces(programme_pieces: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five one-second MPEG-TS segments of the demo programme."""
    folder = tmp_path_factory.mktemp("pieces")
    return [Path(shutil.copy(piece, folder)) for piece in programme_pieces]


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
    """Take a segment whose file has just been finished, so that it is not late."""
    os.utime(segment.path)
    analysis.take(segment)
    analysis.pace = Pace()  # however slow this machine is


OBSERVATIONS = "SELECT * FROM observations ORDER BY ts, track_id"


def test_truncated_segment_is_stored_as_failed_and_the_show_continues(
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


def test_restarted_watcher_continues_the_same_tracks(
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


def test_segment_that_begins_inside_its_file_has_only_its_own_frames(
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


def test_lag_reduces_the_frame_rate_and_is_reported(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    long_ago = time.time() - 60
    for segment in segments[:4]:  # certainly late, also on a fast machine
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


def test_the_next_segment_starts_before_the_previous_one_has_finished(
    analysis: Analysis, segments: list[Segment]
) -> None:
    begun = []

    class Watched(Observer):
        def took(self, item: object, observations: object, counts: object) -> None:
            begun.append(analysis.n_begun)

    analysis.observer = Watched()
    take_for(analysis, Listed(list(segments)))
    assert begun == [1, 1, 1, 1, 0]


TABLES = {
    "observations": "*",
    "face_tracks": "*",
    "emotion_minutes": "*",
    "segments": "started_at, status, frames_analysed, analysed_fps, tracker_state, error",
}


def contents(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    return {t: rows(engine, f"SELECT {what} FROM {t} ORDER BY 1, 2") for t, what in TABLES.items()}


def lines_of(*functions: Callable[..., object]) -> list[tuple[CodeType, int]]:
    """Return the executed lines of these functions, before each of which a signal may arrive."""
    codes = [getattr(function, "__wrapped__", function).__code__ for function in functions]
    return [
        (code, line)
        for code in codes
        for line in sorted({at for _, _, at in code.co_lines() if at and at > code.co_firstlineno})
    ]


def cut_off_before(code: CodeType, line: int) -> Callable[..., object]:
    """Trace a thread, and raise KeyboardInterrupt before that line."""

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        if frame.f_code is not code:
            return None
        if event == "line" and frame.f_lineno == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    return trace


class Known:
    """An analyser that analyses each file once."""

    def __init__(self, analyser: Analyser) -> None:
        self._analyser = analyser
        self._found: dict[Path, Detections] = {}

    def decode(self, path: Path, **options: Any) -> Prefetcher[Detections]:
        if path not in self._found:
            parts = self._analyser.decode(path, **options)
            self._found[path] = self._analyser.analyse_parts(parts)
        return Prefetcher(lambda: iter([self._found[path]]), depth=1)

    def analyse_parts(self, parts: Iterable[Detections]) -> Detections:
        return next(iter(parts))


def test_a_signal_at_any_line_does_not_change_the_rows(
    analysis: Analysis,
    segments: list[Segment],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pace, "update", lambda *_: False)  # however slow this machine is
    analysis.analyser = Known(analysis.analyser)
    shown = segments[:3]
    for segment in shown:
        analysis.take(segment)
    whole = contents(engine)
    assert whole["observations"]
    n_cut = 0
    for code, line in lines_of(Analysis.finish, Analysis._finish, Analysis._finish_segment):
        with engine.begin() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))
        analysis.linker, analysis.counts = Linker(None), Counts()
        source = Listed(list(shown))
        analysis.take(source.get(0))
        sys.settrace(cut_off_before(code, line))
        try:
            take_for(analysis, source)
        except KeyboardInterrupt:
            n_cut += 1
        finally:
            sys.settrace(None)
        take_for(analysis, source)
        assert contents(engine) == whole, f"cut off before line {line}"
        assert 2 <= analysis.counts.segments <= 3
    assert n_cut > 15


class Listed:
    """A source with given items."""

    def __init__(self, items: list[Segment | Gap]) -> None:
        self._items: Iterator[Segment | Gap] = iter(items)
        self.finished = False

    def get(self, timeout_s: float) -> Segment | Gap | None:
        item = next(self._items, None)
        self.finished = item is None
        return item


def test_items_of_a_source_are_processed_in_order(
    analysis: Analysis, segments: list[Segment], engine: Engine
) -> None:
    take_for(analysis, Listed(list(segments)))
    assert rows(engine, "SELECT sequence FROM segments ORDER BY started_at") == [
        (n,) for n in range(5)
    ]
    assert analysis.counts.newest == segments[-1].end
    lags = rows(engine, "SELECT lag_ms FROM segments")
    assert all(isinstance(lag, int) and lag > 0 for (lag,) in lags)


def test_segment_interrupted_by_a_signal_is_analysed_again_with_the_same_tracks(
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
