"""The report as text: in the terminal, and as the run's artifact in the Prefect UI."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text

from db.machines import machines
from db.reading import queries
from db.reading.answers import Summary, Tracks
from db.reading.moments import strongest_moments
from db.reading.shows import shows_of, with_recorded
from emotion.types import EMOTIONS
from flows.errors import UsageError

Rows = list[tuple[str, str]]


def facts(found: Summary) -> Rows:
    """Return a summary as pairs of name and value."""
    segments = ", ".join(f"{n} {status}" for status, n in sorted(found.segments.items()))
    rows = [
        ("recorded", f"{found.recorded_s:.1f} s in segments: {segments or 'none'}"),
        ("gaps", f"{found.n_gaps} ({found.gap_s:.1f} s)" if found.n_gaps else "none"),
        ("frames analysed", str(found.n_frames)),
        ("faces", str(found.n_observations)),
        ("tracks", str(found.n_tracks)),
    ]
    if found.median_lag_ms is not None and found.p95_lag_ms is not None:
        lag = f"median {found.median_lag_ms:.0f} ms, p95 {found.p95_lag_ms:.0f} ms"
        rows.append(("segment closed to rows", lag))
    return rows


def shares(found: Summary) -> list[tuple[str, str, str]]:
    """Return each known emotion, the largest first, with its mean probability and its time share.

    The time share is that of the time in which it was the strongest.
    """
    known = [(name, share) for name, share in found.share.items() if share is not None]
    return [
        (name, f"{share:6.1%}", f"{found.time_share[name] or 0:6.1%}")
        for name, share in sorted(known, key=lambda row: -row[1])
    ]


def print_report(
    connection: Connection, channel: str, since: datetime, until: datetime, console: Console
) -> None:
    """Print tracks, share of each emotion, gaps and lag between two aware times.

    Raises UsageError when nothing was recorded between them.
    """
    found = queries.summary(connection, channel, since, until)
    if not found.segments:
        (last,) = with_recorded(connection, shows_of(connection, channel)[-1:])
        hint = "it has no recording"
        if last.last_recorded is not None:
            hint = f"look further back, with --since {last.started_at:%Y-%m-%d}"
        raise UsageError(
            f"nothing was recorded of {channel} between {since:%Y-%m-%d %H:%M} and "
            f"{until:%Y-%m-%d %H:%M} UTC; {hint}"
        )
    console.print(f"[bold]{channel}[/bold]: {mood(found)}", highlight=False, soft_wrap=True)
    for moment in highlights(connection, channel, since, until):
        console.print(f"  {moment}", highlight=False, soft_wrap=True)
    console.print()
    table = Table(box=None, show_header=False)
    table.add_column("", style="dim")
    table.add_column("", justify="left")
    for row in facts(found):
        table.add_row(*row)
    for number, (name, share, time) in enumerate(shares(found)):
        line = "mean probability, share of time" if number == 0 else ""
        table.add_row(line, f"{share} {time} {name}")
    console.print(table)


def left_out(connection: Connection, channel: str, since: datetime, until: datetime) -> str | None:
    """Return a line on a channel's shows outside [since, until); None if there are none."""
    n_before, n_after, cut = 0, 0, []
    for show in shows_of(connection, channel):
        ended_at = show.ended_at or max(show.started_at, until)
        n_before += ended_at <= since
        n_after += show.started_at >= until
        if show.started_at < since < ended_at or show.started_at < until < ended_at:
            cut.append(show.summary())
    parts = [f"{n_before} shows before {since:%Y-%m-%d %H:%M}"] if n_before else []
    parts += [f"{n_after} after {until:%Y-%m-%d %H:%M}"] if n_after else []
    parts += [f"parts of {', '.join(cut)}"] if cut else []
    return f"left out, by --since and --until: {'; '.join(parts)}" if parts else None


def save_timeline(
    connection: Connection,
    channel: str,
    since: datetime,
    until: datetime,
    path: Path,
    *,
    kind: Literal["png", "svg"] = "png",
) -> bool:
    """Draw the timeline into a PNG or SVG file; returns whether there was a face to draw."""
    from flows.report.picture import draw, read_picture  # imported here: matplotlib takes a second

    picture = read_picture(connection, channel, since, until)
    if picture is None:
        return False
    try:
        draw(picture).savefig(path, format=kind)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror}") from e
    return True


MENTIONED: Final = 0.05
"""Least time share of an emotion named in the sentence on the mood."""

STRONG: Final = 0.5
MAX_HIGHLIGHTS: Final = 3
MAX_CALM: Final = 3
"""If more tracks than this are mostly neutral, they become one line."""

MAX_TRACKS: Final = 20
"""Most tracks of the report's table: the longest."""


def markdown(
    connection: Connection,
    channel: str,
    since: datetime,
    until: datetime | None = None,
    *,
    status: str = "live",
    page_url: str | None = None,
    machine: str | None = None,
) -> str:
    """Return a broadcast's report as Markdown, with the picture; until: by default now.

    page_url: of the page of the shows, to link to. machine: its copying to the object store is
    reported.
    """
    from flows.report.picture import read_picture, small_png

    until = until or datetime.now(UTC)
    found = queries.summary(connection, channel, since, until)
    picture = read_picture(connection, channel, since, until)
    lines = [f"# {channel}, {since:%Y-%m-%d %H:%M} UTC: {status}", "", f"**{mood(found)}**"]
    if picture is not None:
        data = base64.b64encode(small_png(picture)).decode()
        lines += ["", f"![timeline](data:image/png;base64,{data})"]
    if moments := highlights(connection, channel, since, until):
        lines += ["", "## Strongest moments", ""]
        lines += [f"- {line.replace(': showmood', ': `showmood')}`" for line in moments]
    if picture is not None:
        head = "| | mean probability | share of time in which it was strongest |"
        lines += ["", "## Emotions", "", head, "|---|---:|---:|"]
        lines += [f"| {name} | {a.strip()} | {b.strip()} |" for name, a, b in shares(found)]
        lines += ["", "## Tracks", "", *_tracks(picture.tracks)]
    lines += ["", "## Figures", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts(found)]
    if line := next((each.copying for each in machines(connection) if each.name == machine), None):
        lines += [f"| object store, from {machine} | {line.replace('|', ' ')} |"]
    return "\n".join(
        [*lines, "", "## Go on", "", *_onwards(connection, channel, since, until, page_url)]
    )


def mood(found: Summary) -> str:
    """Return one sentence on the emotions."""
    known = {name: share for name, share in found.time_share.items() if share is not None}
    if not known:
        return "no face was seen"
    first, *rest = sorted(known, key=lambda name: -known[name])
    line = f"mostly {first} ({known[first]:.0%} of the time)"
    if others := [f"{name} {known[name]:.0%}" for name in rest[:2] if known[name] >= MENTIONED]:
        line += f", then {' and '.join(others)}"
    faces = "1 face" if found.n_tracks == 1 else f"{found.n_tracks} faces"
    return f"{line}; {faces} followed in {found.recorded_s / 60:.1f} minutes"


def highlights(connection: Connection, channel: str, since: datetime, until: datetime) -> list[str]:
    """Return a line on each strongest moment that is not neutral, with the command to play it."""
    moments = [
        moment
        for moment in strongest_moments(connection, channel, since, until)
        if moment.emotion != "neutral" and moment.value >= STRONG
    ]
    return [
        f"{moment.emotion} {moment.value:.0%} at {moment.ts:%H:%M:%S}, track {moment.track}: "
        f"showmood play {channel} --at {moment.ts:%Y-%m-%dT%H:%M:%S}Z"
        for moment in moments[:MAX_HIGHLIGHTS]
    ]


def _tracks(tracks: Tracks) -> list[str]:
    """Return a table of the longest tracks; mostly neutral ones may be one line together."""
    length = (tracks.last_ts - tracks.first_ts) / np.timedelta64(1, "s")
    calm = tracks.emotion == "neutral"
    folded = calm if calm.sum() > MAX_CALM else np.zeros(len(length), bool)
    rest = np.flatnonzero(~folded)
    longest = np.sort(rest[np.argsort(-length[rest], kind="stable")][:MAX_TRACKS])
    lines = ["| track | from | seconds | faces | mostly | mean |", "|---:|---|---:|---:|---|---:|"]
    for i in longest.tolist():
        name = str(tracks.emotion[i])
        mean = f"{tracks.emotions[i, EMOTIONS.index(name)]:.0%}" if name else ""
        first = tracks.first_ts[i].item()
        lines.append(
            f"| {tracks.track[i]} | {first:%H:%M:%S} | {length[i]:.1f} | {tracks.n[i]} "
            f"| {name} | {mean} |"
        )
    lines = lines if len(longest) else []
    if folded.any():
        seconds = f"{length[folded].sum():.0f} s together"
        lines += ["", f"{folded.sum()} tracks are mostly neutral, {seconds}."]
    dropped = len(rest) - len(longest)
    return [*lines, "", f"{dropped} shorter ones are not shown."] if dropped else lines


def _onwards(
    connection: Connection, channel: str, since: datetime, until: datetime, page_url: str | None
) -> list[str]:
    begin, end = (f"{moment:%Y-%m-%d %H:%M:%S}+00" for moment in (since, until))
    newest = connection.execute(
        text(
            "SELECT path, broadcast_id FROM show_segments WHERE channel = :channel"
            " AND started_at BETWEEN :since AND :until ORDER BY started_at DESC LIMIT 1"
        ),
        {"channel": channel, "since": since, "until": until},
    ).one_or_none()
    lines = (
        [f"The recording is in `{Path(newest.path).parent}`.", ""] if newest and newest.path else []
    )
    if newest is not None and page_url is not None:
        show = f"{page_url}/show/{newest.broadcast_id}"
        lines = [f"[See it on the page]({show}): recording, boxes and curves.", "", *lines]
    return [
        *lines,
        "```sql",
        f"SELECT * FROM emotion_history WHERE channel = '{channel}'",
        f"  AND ts BETWEEN '{begin}' AND '{end}' ORDER BY ts;",
        "SELECT minute, happiness, anger FROM emotion_timeline",
        f"  WHERE channel = '{channel}' AND minute BETWEEN '{begin}' AND '{end}' ORDER BY minute;",
        "```",
    ]
