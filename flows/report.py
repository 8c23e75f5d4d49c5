"""What people look at: the report in the terminal, and the run's artifact in the Prefect UI."""

import base64
import io
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine

from db import queries
from db.answers import Summary
from flows.errors import UsageError
from flows.picture import draw, read_picture

Rows = list[tuple[str, str]]


def facts(found: Summary) -> Rows:
    """Return what a summary says, as pairs of a name and its value."""
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


def shares(found: Summary) -> Rows:
    """Return the share of each emotion that the networks know, the largest first."""
    known = [(name, share) for name, share in found.share.items() if share is not None]
    return [(name, f"{share:6.1%}") for name, share in sorted(known, key=lambda row: -row[1])]


def print_report(
    connection: Connection, channel: str, since: datetime, until: datetime, console: Console
) -> None:
    """Print tracks, share of each emotion, gaps and lag between two aware times.

    Raises UsageError when nothing was recorded between them.
    """
    found = queries.summary(connection, channel, since, until)
    if not found.segments:
        newest = queries.newest(connection, channel)
        hint = "nothing was ever recorded of it"
        if newest is not None and newest.recorded_until is not None:
            hint = f"look further back, with --since {newest.started_at:%Y-%m-%d}"
        raise UsageError(
            f"nothing was recorded of {channel} between {since:%Y-%m-%d %H:%M} and "
            f"{until:%Y-%m-%d %H:%M} UTC; {hint}"
        )
    table = Table(title=f"{channel}", title_justify="left", title_style="bold", box=None)
    table.add_column("", style="dim")
    table.add_column("", justify="left")
    for row in facts(found):
        table.add_row(*row)
    for number, (name, share) in enumerate(shares(found)):
        table.add_row("share of emotions" if number == 0 else "", f"{share} {name}")
    console.print(table)


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
    picture = read_picture(connection, channel, since, until)
    if picture is None:
        return False
    try:
        draw(picture).savefig(path, format=kind)
    except OSError as e:
        raise UsageError(f"{path} cannot be written: {e.strerror}") from e
    return True


def markdown(connection: Connection, channel: str, since: datetime) -> str:
    """Return the run's report, with the picture in it, as Markdown."""
    until = datetime.now(UTC)
    found = queries.summary(connection, channel, since, until)
    lines = [f"# {channel}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in (*facts(found), *shares(found))]
    picture = read_picture(connection, channel, since, until)
    if picture is not None:
        png = io.BytesIO()
        draw(picture).savefig(png, format="png", dpi=80)
        data = base64.b64encode(png.getvalue()).decode()
        lines += ["", f"![timeline](data:image/png;base64,{data})"]
    lines += [
        "",
        "```sql",
        f"SELECT * FROM emotion_newest('{channel}');",
        "```",
    ]
    return "\n".join(lines)


def publish(
    engine: Engine,
    channel: str,
    since: datetime,
    log: logging.Logger | logging.LoggerAdapter[logging.Logger],
) -> None:
    """Put the report of the broadcast so far into the Prefect UI; the show goes on without it."""
    from prefect.artifacts import create_markdown_artifact  # seconds, which a report must not cost

    try:
        with engine.connect() as connection:
            text = markdown(connection, channel, since)
        create_markdown_artifact(text, key=f"show-{channel}", description=f"{channel} so far")
    except Exception as e:  # noqa: BLE001 - a picture in the UI is not worth a show
        log.warning("the report could not be shown in the UI: %r", e)
