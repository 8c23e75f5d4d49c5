from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.capture.segment import Gap, Segment
from flows.capture.supervisor import progress as progress_module
from flows.capture.supervisor.progress import Progress

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def segment(sequence: int) -> Segment:
    return Segment(
        channel="demo",
        broadcast=1,
        sequence=sequence,
        start=NOON + timedelta(seconds=2 * sequence),
        start_is_estimated=False,
        duration_s=2.0,
        path=Path("x.ts"),
        width_px=1,
        height_px=1,
    )


def test_a_capture_reports_its_progress_from_start_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: 7.0))
    progress = Progress()
    assert (progress.state, progress.newest_age_s) == ("nothing yet", None)
    progress.why = "HTTP status 503"
    assert progress.state == "nothing yet: HTTP status 503"
    progress.add([segment(0)])
    assert progress.state.startswith("live, 1 segment, ")
    assert progress.state.endswith(" s behind")
    progress.restarts, progress.why = 1, "HTTP status 404"
    assert progress.state == "nothing for 0 s: HTTP status 404; 1 segment, 1 restart"
    gap = Gap(start=NOON + timedelta(seconds=2), end=NOON + timedelta(seconds=4), why="x")
    progress.add([gap, segment(2), segment(3)])
    assert progress.state.startswith("live, 3 segments, 1 restart, ")
    progress.over = True
    assert progress.state == "ended, 3 segments, 1 restart"
