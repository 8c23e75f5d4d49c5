"""Where recordings are, and which recorded files cover a time range."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from db.channel_lock import is_watched
from db.reading import queries
from db.reading import recordings as rows
from db.reading.recordings import RecordedBroadcast, RecordedRow
from flows.capture.recorded.journal import read_events
from flows.capture.recorded.runs import PIECE
from flows.capture.segment import Gap, Segment
from flows.errors import UsageError
from flows.objects.cache import Copies

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_FOLDER: Final = re.compile(r"(?P<started>\d{8}T\d{6}Z)-(?P<broadcast>\d+)")

WAITING: Final = "waiting"
"""Subfolder of a broadcast's folder with its queued database writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The recordings of a time range.

    segments: whose files are here, in order. gone: number of others, whose files were
    deleted. on: other machines that have files of it. elsewhere: files that are no recordings of
    this machine. gaps: what was not recorded.
    """

    segments: tuple[Segment, ...]
    gone: int
    on: tuple[str, ...]
    elsewhere: tuple[str, ...]
    gaps: tuple[Gap, ...]


def folder_of(recordings_dir: Path, slug: str, started_at: datetime, broadcast_id: int) -> Path:
    """Return a broadcast's folder."""
    return recordings_dir / slug / f"{started_at.astimezone(UTC):{_STAMP}}-{broadcast_id}"


def broadcast_of(folder: Path) -> int | None:
    """Return the number of the broadcast that a folder is of; None for other folders."""
    found = _FOLDER.fullmatch(folder.name)
    return int(found["broadcast"]) if found else None


def find(
    engine: Engine,
    slug: str,
    begin: datetime,
    end: datetime,
    *,
    recordings_dir: Path,
    machine: str | None = None,
    copies: Copies | None = None,
) -> Found:
    """Find what was recorded in [begin, end), also what a broadcast on air has not analysed yet.

    machine: the name of this one. copies: of segments that are not on this disk;
    `bring` one before its file is opened. Raises UnknownChannel.
    """
    recordings_dir = recordings_dir.resolve()
    with engine.connect() as connection:
        stored = rows.recorded(connection, slug, begin, end)
        gaps = {
            (start, stop): Gap(start=start, end=stop, why=why)
            for start, stop, why in queries.gaps(connection, slug, begin, end)
        }
        newest = rows.newest_broadcast(connection, slug)
    here: dict[datetime, Segment] = {}
    elsewhere: set[str] = set()
    on: set[str | None] = set()
    gone = 0
    for each in stored:
        if (path := _file_of(each, recordings_dir / slug)) is not None:
            here[each.started_at] = segment_of(each, slug, path)
        elif each.object_key and copies is not None:
            path = copies.expect(each.object_key, each.sha256)
            here[each.started_at] = segment_of(each, slug, path)
        elif each.path and each.machine not in (None, machine):
            on.add(each.machine)
        elif each.path and Path(each.path).is_file():
            elsewhere.add(each.path)
        else:
            gone += 1
    if newest is not None and newest.status == "live":
        known = {each.started_at for each in stored}
        for event in read_events(folder_of(recordings_dir, slug, newest.started_at, newest.id)):
            if event.end <= begin or event.start >= end:
                continue
            if isinstance(event, Gap):
                gaps.setdefault((event.start, event.end), event)
            elif event.start not in known and event.path.exists():
                here[event.start] = event
    return Found(
        segments=tuple(here[start] for start in sorted(here)),
        gone=gone,
        on=tuple(sorted(filter(None, on))),
        elsewhere=tuple(sorted(elsewhere)),
        gaps=tuple(sorted(gaps.values(), key=lambda gap: gap.start)),
    )


def is_on_air(connection: Connection, broadcast: RecordedBroadcast) -> bool:
    """Return whether a broadcast is being recorded just now."""
    return broadcast.status == "live" and is_watched(connection, broadcast.slug)


def nothing_recorded(
    engine: Engine, slug: str, begin: datetime, end: datetime, found: Found
) -> UsageError:
    """Return the error that explains why there is no recording of a time range."""
    when = local_time(begin) if begin >= end else f"{local_time(begin)} to {local_time(end)}"
    with engine.connect() as connection:
        before, after = rows.nearest(connection, slug, begin)
    near = [f"the last before it ends {local_time(before)}"] if before else []
    near += [f"the next begins {local_time(after)}"] if after else []
    hint = f"; {' and '.join(near)}" if near else "; no recording of this channel is left"
    if found.elsewhere:
        return UsageError(f"{slug}, {when}: that was a file, not a recording: {found.elsewhere[0]}")
    if found.on:
        return UsageError(
            f"{slug}, {when}: the recording is on {' and '.join(found.on)}: ask there, or set "
            "SHOWMOOD_RECORDINGS_STORE so that each machine can read it"
        )
    if found.gone:
        return UsageError(
            f"{slug}, {when}: the recording is gone, deleted for its age or for room "
            f"(SHOWMOOD_KEEP_RECORDINGS_...), its rows are kept{hint}"
        )
    if found.gaps:
        return UsageError(f"{slug}, {when}: not recorded: {found.gaps[0].why}{hint}")
    return UsageError(f"{slug}, {when}: nothing was recorded then{hint}")


def local_time(moment: datetime) -> str:
    """Return a moment in local time, with its zone."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")


def _file_of(row: RecordedRow, directory: Path) -> Path | None:
    """Return a row's file if capture recorded it for this channel, and it is there; else None.

    directory: of the channel's recordings, as it is now. A row has the path that was written to,
    and what is above the channel's folder may have been moved since.
    """
    path = Path(row.path or "")
    is_recording = (
        PIECE.fullmatch(path.name)
        and _FOLDER.fullmatch(path.parent.name)
        and path.parent.parent.name == directory.name
    )
    here = directory / path.parent.name / path.name
    return here if is_recording and here.is_file() else None


def segment_of(row: RecordedRow, slug: str, path: Path) -> Segment:
    """Return a row as the segment whose file is at `path`.

    row: any row with these columns.
    """
    return Segment(
        channel=slug,
        broadcast=row.broadcast_id,
        sequence=row.sequence,
        start=row.started_at.astimezone(UTC),
        start_is_estimated=row.start_is_estimated,
        duration_s=row.duration_s,
        path=path,
        width_px=row.width_px,
        height_px=row.height_px,
        offset_s=row.offset_s,
        is_ad=row.is_ad,
        needs=tuple(Path(name).name for name in row.needs),
    )


def spans_between(segments: Sequence[Segment]) -> list[tuple[datetime, datetime]]:
    """Return the time ranges between segments that none of them covers."""
    return [
        (a.end, b.start) for a, b in pairwise(segments) if (b.start - a.end).total_seconds() >= 0.1
    ]
