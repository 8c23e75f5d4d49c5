"""events.jsonl: the journal of a recording, one line for each reported segment or gap."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from flows.capture.segment import Gap, Segment

_log = logging.getLogger(__name__)

JOURNAL: Final = "events.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class _GapLine:
    start: datetime
    end: datetime
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _SegmentLine:
    sequence: int
    file: str
    start: datetime
    duration_s: float
    estimated: bool
    offset_s: float
    width_px: int
    height_px: int
    channel: str
    broadcast: int
    continuous: bool = False
    is_ad: bool | None = None
    needs: tuple[str, ...] = ()


_LINE: Final[TypeAdapter[_GapLine | _SegmentLine]] = TypeAdapter(_GapLine | _SegmentLine)


def read_events(directory: Path) -> list[Segment | Gap]:
    """Return a recording's segments and gaps, in order, also during recording; may be empty.

    An incomplete last line is left out. Files may have been deleted.
    """
    return read_lines(directory)[0]


def read_lines(directory: Path) -> tuple[list[Segment | Gap], int]:
    """Return the result of `read_events`, and the number of unreadable lines."""
    try:
        data = (directory / JOURNAL).read_bytes()
    except FileNotFoundError:
        return [], 0
    whole = data.rpartition(b"\n")[0]
    events: list[Segment | Gap] = []
    n_lost = 0
    for line in whole.split(b"\n") if whole else []:
        try:
            # After a loss of power, the last bytes of a file may be zeros.
            events.append(_event_of(_LINE.validate_json(line.strip(b"\0")), directory))
        except (ValidationError, ValueError):
            n_lost += 1
    if n_lost:
        _log.warning("%s: %d lines of %s can't be read", directory, n_lost, JOURNAL)
    return events, n_lost


def repair(journal: Path) -> None:
    """Remove an incomplete last line left by a crash; its segment is recovered from its file."""
    if journal.exists():
        data = journal.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(journal, data.rfind(b"\n") + 1)


def to_line(event: Segment | Gap) -> str:
    """Return an event's line, without the line end."""
    line: _GapLine | _SegmentLine
    if isinstance(event, Gap):
        line = _GapLine(start=event.start, end=event.end, why=event.why)
    else:
        line = _SegmentLine(
            sequence=event.sequence,
            file=event.path.name,
            start=event.start,
            duration_s=event.duration_s,
            estimated=event.start_is_estimated,
            offset_s=event.offset_s,
            continuous=event.continuous,
            width_px=event.width_px,
            height_px=event.height_px,
            channel=event.channel,
            broadcast=event.broadcast,
            is_ad=event.is_ad,
            needs=event.needs,
        )
    return _LINE.dump_json(line).decode()


def _event_of(line: _GapLine | _SegmentLine, directory: Path) -> Segment | Gap:
    start = line.start.astimezone(UTC)
    if isinstance(line, _GapLine):
        return Gap(start=start, end=line.end.astimezone(UTC), why=line.why)
    return Segment(
        channel=line.channel,
        broadcast=line.broadcast,
        sequence=line.sequence,
        start=start,
        start_is_estimated=line.estimated,
        duration_s=line.duration_s,
        path=directory / line.file,
        width_px=line.width_px,
        height_px=line.height_px,
        offset_s=line.offset_s,
        continuous=line.continuous,
        is_ad=line.is_ad,
        needs=tuple(Path(name).name for name in line.needs),
    )
