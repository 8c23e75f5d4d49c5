"""Audit: every second of a show is once a row, a gap with a true reason, or spooled on disk.

Every frame of a source has unique bytes, so what was on air is known.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.breaking import Show
from benchmarks.chaos.carrying import Done
from benchmarks.chaos.disk import Archive
from benchmarks.chaos.plan import Cause
from benchmarks.origin.audit import Account, Audit
from benchmarks.up import Up
from emotion.linking.track import MAX_AGE_S
from flows.capture.recorded.journal import read_events
from flows.capture.segment import Gap, Segment
from flows.recordings.finding import WAITING

SEGMENT_S: Final = 2.0
MIN_GAP: Final = timedelta(milliseconds=100)
_ROUNDED: Final = timedelta(milliseconds=2)
"""Tolerance of dates, which are whole milliseconds, in seconds."""

_MAX_DATE_ERROR_S: Final = 0.1

_LATE: Final = timedelta(seconds=75)
"""Seconds after a fault in which its effects may appear, for example a slow start."""

_CAUSES: Final[tuple[tuple[str, tuple[Cause, ...]], ...]] = (
    (r"nothing was recording|was interrupted|did not run", ("process",)),
    (r"MiB free|No space|[Rr]ead-only|disk", ("disk",)),
    (r"", ("source",)),
)
"""Causes by patterns of a gap's reason; the first match counts."""

_FRAME_LIMIT_S: Final = MAX_AGE_S + 2 * SEGMENT_S
"""Maximum seconds between observations of a track, with one analysed frame per segment."""


@dataclass(kw_only=True, slots=True)
class Found:
    """Result of the audit of a show.

    failed: the segments whose analysis failed. wrong: failed checks, a line each.
    """

    slug: str
    account: Account | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    failed: list[Gap] = field(default_factory=list)
    faces: int = 0
    tracks: int = 0
    wrong: list[str] = field(default_factory=list)


def waiting(recordings: Path, slug: str = "*") -> list[Path]:
    """Return the spooled writes."""
    return sorted(recordings.glob(f"{slug}/*/{WAITING}/*"))


def audit(
    up: Up, show: Show, archive: Archive, done: Sequence[Done], *, end: int, last: int
) -> Found:
    """Audit a show.

    end: everything that its source published before this must be present. last: highest id of its
    broadcasts.
    """
    found = Found(slug=show.slug)
    events = _rows(up, show, archive, found, last)
    found.gaps = [event for event in events if isinstance(event, Gap)]
    if not events:
        found.wrong.append("nothing was recorded")
        return found
    found.account = account = Audit(show.origin).of_events(events, end=end)
    if account.silent_s > 0:
        found.wrong.append(f"{account.silent_s:.2f} s are missing, and no gap says so")
    if account.repeated_s > 0:
        found.wrong.append(f"{account.repeated_s:.2f} s are there twice")
    if account.date_error_s > _MAX_DATE_ERROR_S:
        found.wrong.append(f"dates are off by {account.date_error_s:.3f} s")
    for a, b in pairwise(events):
        if b.start < a.end - _ROUNDED:
            found.wrong.append(f"{_summary(a)} overlaps {_summary(b)}")
        elif b.start - a.end >= MIN_GAP:
            found.wrong.append(f"no row between {_summary(a)} and {_summary(b)}")
    for gap in (*found.gaps, *found.failed):
        if not is_true(gap, show.slug, done):
            found.wrong.append(f"{_summary(gap)}: there was no such fault")
    found.wrong += _wrong_in_journals(up, show)
    found.wrong += _wrong_in_tracks(up, show, found)
    return found


_OF_SHOW: Final = (
    "JOIN channels c ON c.id = e.channel_id AND c.slug = :slug"
    " JOIN broadcasts b ON b.id = e.broadcast_id AND b.id <= :last"
)


def _rows(up: Up, show: Show, archive: Archive, found: Found, last: int) -> list[Segment | Gap]:
    """Return the rows of a channel, in order of time, with the copies of their files."""
    names: dict[tuple[int, int], Path] = {}
    for folder in (up.home / "recordings" / show.slug).iterdir():
        for event in read_events(folder):
            if isinstance(event, Segment):
                names[event.broadcast, event.sequence] = event.path
    events: list[Segment | Gap] = []
    sql = f"SELECT e.* FROM segments e {_OF_SHOW} ORDER BY e.started_at"
    for row in up.rows(sql, slug=show.slug, last=last):
        found.statuses[row.status] += 1
        if row.status == "failed":
            found.failed.append(Gap(start=row.started_at, end=row.ended_at, why=row.error or ""))
        path = names.get((row.broadcast_id, row.sequence), Path(row.path or "/nowhere"))
        if not archive.find(path).exists():
            found.wrong.append(f"segment {row.sequence} has no file: {path.name}")
        events.append(_segment(row, show, archive.find(path)))
    sql = f"SELECT e.* FROM gaps e {_OF_SHOW} ORDER BY e.started_at"
    for row in up.rows(sql, slug=show.slug, last=last):
        events.append(Gap(start=row.started_at, end=row.ended_at, why=row.why))
    return sorted(events, key=lambda event: (event.start, event.end))


def _segment(row: Any, show: Show, path: Path) -> Segment:  # noqa: ANN401
    return Segment(
        channel=show.slug,
        broadcast=row.broadcast_id,
        sequence=row.sequence,
        start=row.started_at,
        start_is_estimated=row.start_is_estimated,
        duration_s=row.duration_s,
        path=path,
        width_px=row.width_px or 0,
        height_px=row.height_px or 0,
        offset_s=row.offset_s,
    )


def is_true(gap: Gap, slug: str, done: Sequence[Done]) -> bool:
    """Return whether a fault that matches a gap's reason was active then."""
    causes = next(causes for words, causes in _CAUSES if re.search(words, gap.why))
    return any(
        each.why_not is None
        and each.step.cause in causes
        and (each.step.show is None or slug == slug_of(each.step.show))
        and each.begin - timedelta(seconds=SEGMENT_S) <= gap.end
        and gap.start <= each.end + _LATE
        for each in done
    )


def slug_of(number: int) -> str:
    """Return the channel's name of a show."""
    return f"show-{number}"


def _wrong_in_journals(up: Up, show: Show) -> list[str]:
    """Return journal entries without a row."""
    wrong = []
    segments: dict[int, set[int]] = {}
    gaps: dict[int, set[datetime]] = {}
    for row in up.rows("SELECT broadcast_id, sequence FROM segments"):
        segments.setdefault(row.broadcast_id, set()).add(row.sequence)
    for row in up.rows("SELECT broadcast_id, started_at FROM gaps"):
        gaps.setdefault(row.broadcast_id, set()).add(row.started_at)
    for folder in sorted((up.home / "recordings" / show.slug).iterdir()):
        number = int(folder.name.rpartition("-")[2])
        seen: set[int] = set()
        for event in read_events(folder):
            if isinstance(event, Gap):
                if event.start not in gaps.get(number, ()):
                    wrong.append(f"{_summary(event)} is in {folder.name} and is no row")
                continue
            if event.sequence in seen:
                wrong.append(f"{_summary(event)}: its number is there twice in {folder.name}")
            seen.add(event.sequence)
            if event.sequence not in segments.get(number, ()):
                wrong.append(f"{_summary(event)} is in {folder.name} and is no row")
        if number in segments and segments[number] != seen:
            wrong.append(f"{folder.name}: rows {sorted(segments[number] - seen)} are of no file")
    return wrong


_OF_CHANNEL: Final = "JOIN channels c ON c.id = o.channel_id AND c.slug = :slug"
_FACES: Final = (
    f"SELECT o.ts, o.track_id FROM observations o {_OF_CHANNEL} ORDER BY o.track_id, o.ts"
)
_STRAY: Final = (
    f"SELECT count(*) AS n FROM observations o {_OF_CHANNEL} WHERE NOT EXISTS (SELECT 1 FROM"
    " segments s WHERE s.channel_id = o.channel_id AND s.status = 'analysed'"
    " AND o.ts >= s.started_at AND o.ts < s.ended_at AND s.broadcast_id = o.track_id / 100000000)"
)
_TRACKS: Final = (
    "SELECT t.id, t.track_no, t.broadcast_id, t.first_ts, t.last_ts FROM face_tracks t JOIN"
    " broadcasts b ON b.id = t.broadcast_id JOIN channels c ON c.id = b.channel_id"
    " AND c.slug = :slug ORDER BY t.broadcast_id, t.first_ts, t.track_no"
)
_MINUTES: Final = (
    "SELECT count(*) AS n FROM (SELECT channel_id, date_trunc('minute', ts, 'UTC') AS minute,"
    " count(*) AS n FROM observations GROUP BY 1, 2) o FULL JOIN (SELECT channel_id, minute,"
    " sum(n) AS n FROM emotion_minutes GROUP BY 1, 2) m USING (channel_id, minute)"
    " WHERE o.n IS DISTINCT FROM m.n"
)


def _wrong_in_tracks(up: Up, show: Show, found: Found) -> list[str]:
    """Return errors of faces: a track number with two faces, rows without a segment, wrong sums."""
    wrong = []
    seen: dict[int, list[datetime]] = {}
    for row in up.rows(_FACES, slug=show.slug):
        seen.setdefault(row.track_id, []).append(row.ts)
    found.faces = sum(map(len, seen.values()))
    tracks = up.rows(_TRACKS, slug=show.slug)
    found.tracks = len(tracks)
    for track, times in seen.items():
        away_s = max(((b - a).total_seconds() for a, b in pairwise(times)), default=0.0)
        if away_s > _FRAME_LIMIT_S:
            wrong.append(f"track {track} goes on after {away_s:.1f} s: two faces, one number")
    for row in tracks:
        span = seen.get(row.id)
        if span is None or (row.first_ts, row.last_ts) != (span[0], span[-1]):
            wrong.append(f"track {row.id} is said to be from {row.first_ts} to {row.last_ts}")
    if set(seen) - {row.id for row in tracks}:
        wrong.append("faces are of no track")
    for a, b in pairwise(tracks):
        if a.broadcast_id == b.broadcast_id and b.track_no < a.track_no and b.first_ts > a.first_ts:
            wrong.append(f"track number {b.track_no} begins after {a.track_no}")
    (stray,) = up.rows(_STRAY, slug=show.slug)
    if stray.n:
        wrong.append(f"{stray.n} faces are of no segment")
    (minutes,) = up.rows(_MINUTES)
    if minutes.n:
        wrong.append(f"{minutes.n} minutes are not the sum of their faces")
    return wrong


def _summary(event: Segment | Gap) -> str:
    length_s = (event.end - event.start).total_seconds()
    if isinstance(event, Gap):
        return f"the gap at {event.start:%H:%M:%S.%f} of {length_s:.2f} s ({event.why})"
    return f"segment {event.sequence} at {event.start:%H:%M:%S.%f} of {length_s:.2f} s"
