"""Progress output: lines without a terminal, a bar or a line with one, nothing when quiet."""

import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from emotion.types import EMOTIONS, K, Observations
from flows.capture.segment import Gap, Segment
from flows.commands.work import progress as terminal
from flows.commands.work.progress import WatchLine, progress_of
from flows.live.rows.analysis import Counts

NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)
SEGMENT = Segment(
    channel="news",
    broadcast=1,
    sequence=0,
    start=NOW,
    start_is_estimated=False,
    duration_s=2.0,
    path=Path("a.ts"),
    width_px=640,
    height_px=360,
    offset_s=0.0,
)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0.0)


def test_progress_of_a_file_is_a_line_with_the_remaining_time(
    often: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with progress_of("news", 4000.0) as tell:
        tell(30.0)
        tell(4000.0)
    first, last = caplog.messages
    assert re.fullmatch(r"news: 0:30 analysed of 1:06:40, [\d:]+ left", first)
    assert last == "news: 1:06:40 analysed"


@pytest.mark.parametrize("quiet", [True, False])
def test_a_terminal_gets_a_bar_unless_it_is_quiet(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_of("news", 100.0, quiet=quiet) as tell:
        tell(50.0)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("news" in printed.err) is not quiet
    assert ("50 %" in printed.err) is not quiet


def seen(emotion: str) -> Observations:
    """Two faces: the older look was another emotion's."""
    smoothed = np.full((2, K), 0.01, np.float32)
    smoothed[0, 0] = smoothed[1, EMOTIONS.index(emotion)] = 1.0
    ts = np.array(["2026-11-22T20:00:00", "2026-11-22T20:00:01"], "datetime64[us]")
    return Observations(
        ts=ts,
        track=np.ones(2, np.int64),
        boxes=np.zeros((2, 4), np.float32),
        scores=np.ones(2, np.float32),
        probs=smoothed,
        smoothed=smoothed,
    )


def test_progress_of_a_watch_has_its_faces_and_lag(
    often: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    line = WatchLine()
    assert line.line() == "looking for the stream ..."
    line.waiting(NOW)
    assert line.line() == "waiting for the show until 20:00 UTC ..."
    counts = Counts(segments=3, observations=12, newest=datetime.now(UTC) - timedelta(seconds=90))
    line.took(SEGMENT, seen("happiness"), counts)
    said = (
        r"live: 3 segments, 12 faces, newest emotion happiness, (\d+\.\d) s behind the air, no gap"
    )
    assert 90 <= float(re.fullmatch(said, line.line())[1]) < 150
    counts.newest = datetime.now(UTC) + timedelta(hours=1)  # estimated from a late arrival
    assert ", 0.0 s behind the air" in line.line()
    counts.gaps = 1
    line.took(Gap(start=NOW, end=NOW + timedelta(seconds=4), why="away"), None, counts)
    assert "newest emotion happiness" in line.line()
    assert line.line().endswith(", 1 gaps")
    assert caplog.messages[-1].endswith("1 gaps")


def test_log_lines_are_printed_above_the_progress_and_logging_is_restored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    before = handler.stream
    try:
        line = WatchLine()
        with line.shown():
            assert handler.stream is not before
            logging.getLogger("showmood").warning("a word of the log")
        assert handler.stream is before
    finally:
        logging.getLogger().removeHandler(handler)
    printed = capsys.readouterr().err
    assert "a word of the log\n" in printed
    assert "looking for the stream" in printed
