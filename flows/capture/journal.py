"""events.jsonl: every segment and gap that was reported of a recording, a line each, in order."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flows.capture.segment import Gap, Segment

JOURNAL: Final = "events.jsonl"


def read_events(directory: Path) -> list[Segment | Gap]:
    """Return what was recorded there, in order, also while it is; empty where nothing was.

    A line that is just being written is left out. Files may have been deleted since.
    """
    try:
        text = (directory / JOURNAL).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text.rpartition("\n")[0]
    return [_from_line(json.loads(line), directory) for line in whole.splitlines()]


def mend(journal: Path) -> None:
    """Take off the last line if a crash cut it; what it told is found again in the files."""
    if journal.exists():
        data = journal.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(journal, data.rfind(b"\n") + 1)


def to_line(event: Segment | Gap) -> dict[str, Any]:
    """Return what its line says."""
    if isinstance(event, Gap):
        return {"start": event.start.isoformat(), "end": event.end.isoformat(), "why": event.why}
    return {
        "sequence": event.sequence,
        "file": event.path.name,
        "start": event.start.isoformat(),
        "duration_s": event.duration_s,
        "estimated": event.start_is_estimated,
        "offset_s": event.offset_s,
        "continuous": event.continuous,
        "width_px": event.width_px,
        "height_px": event.height_px,
        "channel": event.channel,
        "broadcast": event.broadcast,
    }


def _from_line(line: dict[str, Any], directory: Path) -> Segment | Gap:
    start = datetime.fromisoformat(line["start"])
    if "why" in line:
        return Gap(start=start, end=datetime.fromisoformat(line["end"]), why=line["why"])
    return Segment(
        channel=line["channel"],
        broadcast=line["broadcast"],
        sequence=line["sequence"],
        start=start,
        start_is_estimated=line["estimated"],
        duration_s=line["duration_s"],
        path=directory / line["file"],
        width_px=line["width_px"],
        height_px=line["height_px"],
        offset_s=line["offset_s"],
        continuous=line.get("continuous", False),
    )
