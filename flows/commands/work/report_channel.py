"""`showmood report`: a channel's report, its picture and its rows; imports no network."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from db.reading import queries
from db.reading.history import Kind
from db.reading.shows import ShowRow, with_recorded
from db.session import make_engine
from flows.commands.work.chosen_shows import chosen_shows
from flows.commands.work.progress import progress_of
from flows.errors import UsageError
from flows.report.export import STDOUT, Words, export_rows
from flows.report.file_formats import Format
from flows.report.text import left_out, print_report, save_timeline
from flows.settings import Settings
from flows.show import parse_since, parse_until
from flows.stack.processes.existing_database import existing_database

DEFAULT_SINCE: Final = "24h"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The scope of a report: a time range, or shows (see `chosen_shows.HELP`)."""

    since: str | None
    until: str | None
    show: str | None = None

    def span(self, shows: Sequence[ShowRow]) -> tuple[datetime, datetime]:
        """Return [begin, end) in UTC; of chosen shows, the range of all of them.

        Raises UsageError if it is empty.
        """
        if shows:
            begin = min(show.first_recorded or show.started_at for show in shows)
            end = max(show.last_recorded or show.ended_at or datetime.now(UTC) for show in shows)
            begin = parse_since(self.since) if self.since else begin
            end = parse_since(self.until) if self.until else end
        else:
            begin, end = parse_since(self.since or DEFAULT_SINCE), parse_until(self.until)
        if begin >= end:
            until = (
                f"--until {self.until}" if self.until else "the end of the show" if shows else "now"
            )
            raise UsageError(f"--since {self.since or DEFAULT_SINCE} is not before {until}")
        return begin, end


def report_channel(
    settings: Settings,
    channel: str | None,
    *,
    wanted: Wanted,
    pictures: Mapping[Literal["png", "svg"], Path | None],
    exports: Mapping[Format, Path | None],
    kind: Kind,
    words: Words,
    quiet: bool,
) -> None:
    """Print a channel's report; optionally draw its timeline, and write its rows into files.

    channel: None: list the channels. If rows go to stdout, the report goes to stderr. Raises
    UsageError if there is nothing in the range.
    """
    files = {form: path for form, path in exports.items() if path is not None}
    if list(files.values()).count(STDOUT) > 1:
        raise UsageError("only one of --csv, --json and --parquet can be -, which is stdout")
    console = Console(stderr=STDOUT in files.values())
    if wanted.show is None:
        wanted.span(())  # before anything is started
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        if channel is None:
            _list_channels(connection, console)
            return
        shows = chosen_shows(connection, channel, wanted.show) if wanted.show else []
        shows = with_recorded(connection, shows)
        begin, end = wanted.span(shows)
        print_report(connection, channel, begin, end, console)
        if not shows and (line := left_out(connection, channel, begin, end)):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        for picture, path in pictures.items():
            if path is not None:
                drawn = save_timeline(connection, channel, begin, end, path, kind=picture)
                line = f"timeline: {path}" if drawn else "no face was seen: no timeline to draw"
                console.print(line, soft_wrap=True, markup=False)
        for form, path in files.items():
            ids = [show.id for show in shows] or None
            with progress_of(
                f"{channel} to {path}", (end - begin).total_seconds(), quiet=quiet, done="written"
            ) as on_progress:
                written = export_rows(
                    connection,
                    channel,
                    begin,
                    end,
                    path,
                    form=form,
                    kind=kind,
                    words=words,
                    show_ids=ids,
                    on_progress=on_progress,
                )
            beside = f" (its columns: {written.sidecar.name})" if written.sidecar else ""
            what = kind if words == "showmood" else "rows"
            line = f"{written.n_rows} {what}: {path}{beside}"
            console.print(line, soft_wrap=True, markup=False)


def _list_channels(connection: Connection, console: Console) -> None:
    there = queries.channels(connection)
    if not there:
        raise UsageError("there is no channel yet: nothing has been watched or analysed")
    table = Table(box=None, header_style="bold")
    for column in ("channel", "shows", "newest"):
        table.add_column(column, overflow="fold")
    for each in there:
        newest = each.last_started_at
        begun = f"{newest:%Y-%m-%d %H:%M} UTC" if newest else ""
        table.add_row(each.slug, str(each.n_broadcasts), begun)
    console.print(table)
    console.print("showmood report CHANNEL --since 7d", highlight=False)
