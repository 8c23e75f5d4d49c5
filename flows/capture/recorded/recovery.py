"""Recovers what dead captures left in a broadcast's directory."""

from collections.abc import Iterator
from pathlib import Path

from flows.capture.processes import end_stale
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.runs import runs_in
from flows.capture.segment import Gap, Segment


def recover(
    directory: Path, *, channel: str, broadcast: int, after: int = -1
) -> Iterator[Segment | Gap]:
    """Yield what earlier captures recorded in a directory, in order, reported or not.

    after: leave out what comes up to and with the segment of this sequence. Files that were
    deleted since are left out too. What a dead process left running is ended first. To be called
    before a new Capture of this directory begins. Yields nothing where nothing was recorded.
    Raises CaptureFailed while another process records there.
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
