"""Recovers the recording of captures that have crashed."""

from collections.abc import Iterator
from pathlib import Path

from flows.capture.processes import end_stale
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.runs import runs_in
from flows.capture.segment import Gap, Segment


def recover(
    directory: Path, *, channel: str, broadcast: int, after: int = -1
) -> Iterator[Segment | Gap]:
    """Yield segments and gaps of earlier captures in a directory, in order, reported or not.

    after: skip events up to and including the segment of this sequence. Deleted files are skipped,
    too. First ends a tool that a dead process left running. Call it before a new Capture of this
    directory begins. Raises CaptureFailed while another process records there.
    """
    end_stale(directory / "ffmpeg.pid")
    if not directory.exists() or not runs_in(directory):
        return
    recording = Recording(directory, channel=channel, broadcast=broadcast)
    recording.recover()
    passed = after < 0
    for event in recording.events:
        if isinstance(event, Gap):
            if passed:
                yield event
        elif event.sequence > after:
            passed = True
            if event.path.exists():
                yield event
        elif event.sequence == after:
            passed = True
