"""`showmood report`: a channel's report, its picture and its rows; imports no network."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from db.reading import queries
from db.session import make_engine
from flows.errors import UsageError
from flows.report.export import Format, export_history
from flows.report.text import print_report, save_timeline
from flows.settings import Settings
from flows.show import parse_since, parse_until
from flows.stack.existing_database import existing_database


def report_channel(
    settings: Settings,
    channel: str | None,
    *,
    since: str,
    until: str | None,
    pictures: Mapping[Literal["png", "svg"], Path | None],
    exports: Mapping[Format, Path | None],
    console: Console,
) -> None:
    """Print a channel's report; draw its timeline and write its rows into files if asked.

    channel: without one, the channels are listed. Raises UsageError when `since` is not before
    `until`, or there is nothing between them.
    """
    begin, end = parse_since(since), parse_until(until)
    if begin >= end:
        raise UsageError(f"--since {since} is not before {f'--until {until}' if until else 'now'}")
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        if channel is None:
            _list_channels(connection, console)
            return
        queries.channel_id(connection, channel)
        print_report(connection, channel, begin, end, console)
        for kind, path in pictures.items():
            if path is not None:
                drawn = save_timeline(connection, channel, begin, end, path, kind=kind)
                said = f"timeline: {path}" if drawn else "no face was seen: no timeline to draw"
                console.print(said, soft_wrap=True)
        for form, path in exports.items():
            if path is not None:
                n_rows = export_history(connection, channel, begin, end, path, form=form)
                console.print(f"{n_rows} faces: {path}", soft_wrap=True)


def _list_channels(connection: Connection, console: Console) -> None:
    there = queries.channels(connection)
    if not there:
        raise UsageError("there is no channel yet: nothing has been watched or analysed")
    table = Table(box=None, header_style="bold")
    for column in ("channel", "broadcasts", "newest", "URL"):
        table.add_column(column, overflow="fold")
    for each in there:
        newest = each.last_started_at
        said = f"{newest:%Y-%m-%d %H:%M} UTC" if newest else ""
        table.add_row(each.slug, str(each.n_broadcasts), said, each.url or "")
    console.print(table)
    console.print("showmood report CHANNEL --since 7d", highlight=False)
