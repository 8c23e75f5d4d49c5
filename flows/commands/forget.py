"""showmood forget: deletes shows with their rows, recordings and clips."""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flows.commands import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from db.reading.shows import ShowRow
    from flows.settings import Settings

app = typer.Typer()

_MAX_NAMED = 5
"""Most shows named in the confirmation; the rest are counted."""


@app.command()
def forget(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    show: Annotated[
        str | None,
        typer.Option(
            help="One show: its number (broadcast_id), the day it began, a time when it was on "
            "air, its title, or last; by default the whole channel."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete shows for good: rows, recordings and clips. Asks for confirmation."""
    from db.session import make_engine
    from flows.commands.work.chosen_shows import chosen_shows
    from flows.errors import UsageError
    from flows.stack.processes.existing_database import existing_database

    settings = load_settings()
    console = Console(stderr=True)
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        with engine.connect() as connection:
            shows = chosen_shows(connection, channel, show)
            console.print(
                _summary(connection, settings, channel, shows), soft_wrap=True, markup=False
            )
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("nothing was deleted: say --yes where there is no terminal")
            if not typer.confirm("Delete all of that for good?", err=True):
                raise UsageError("nothing was deleted")
        n_faces = _forget(engine, settings, channel, shows, whole=show is None)
    console.print(f"{channel}: {len(shows)} deleted, with {n_faces} faces", soft_wrap=True)


def _summary(
    connection: "Connection", settings: "Settings", channel: str, shows: "list[ShowRow]"
) -> str:
    from db.reading.shows import n_faces_of
    from flows.recordings.forgetting import files_of

    named = "; ".join(show.summary() for show in shows[:_MAX_NAMED])
    more = f" and {len(shows) - _MAX_NAMED} more" if len(shows) > _MAX_NAMED else ""
    faces = n_faces_of(connection, channel, [show.id for show in shows])
    files = files_of(settings, channel, [_span(show) for show in shows])
    return f"{channel}, {len(shows)} shows: {named}{more}; {faces} faces, {files.summary()}"


def _forget(
    engine: "Engine", settings: "Settings", channel: str, shows: "list[ShowRow]", *, whole: bool
) -> int:
    """Delete shows, their rows first; return how many faces were deleted.

    Raises UsageError for a show on air, or files that can't be deleted; DatabaseError.
    """
    from filelock import Timeout

    from db.errors import ChannelBusy
    from db.reading import queries
    from db.writing.forgetting import forget_broadcasts, forget_channel
    from flows.errors import UsageError
    from flows.live.locking.local_lock import hold_channel
    from flows.recordings.forgetting import delete_files, files_of

    files = files_of(settings, channel, [_span(show) for show in shows])
    with ExitStack() as stack:
        try:
            stack.enter_context(
                hold_channel(engine, settings.recordings_dir, channel, "showmood forget")
            )
        except ChannelBusy as e:
            if whole or any(show.status == "live" for show in shows):
                raise UsageError(
                    f"{channel} is on air, watched by {e.holder or 'another process'}: cancel that "
                    "run or wait for its end; nothing was deleted"
                ) from e
        with engine.begin() as connection:
            number = queries.channel_id(connection, channel)
            gone = forget_broadcasts(connection, number, [show.id for show in shows])
            forget_channel(connection, number)
        try:
            delete_files(settings, channel, files)
        except (OSError, Timeout) as e:
            raise UsageError(
                f"the rows are deleted, but not all files: {e}; delete the rest of "
                f"{files.summary()} yourself: {', '.join(map(str, (*files.folders, *files.clips)))}"
            ) from e
    return gone.observations


def _span(show: "ShowRow") -> tuple[int, datetime, datetime]:
    return show.id, show.started_at, show.ended_at or datetime.now(UTC)
