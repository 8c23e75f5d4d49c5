"""showmood play, clip: plays recordings, and cuts clips out of them."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import load_settings
from flows.commands.terminal import plain_console

app = typer.Typer()


@app.command()
def play(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    at: Annotated[
        str | None,
        typer.Option(
            help="Time: 20:15, 10m (ago) or 2026-11-22T20:15:00+01:00; by default now for a show "
            "on air, else the start of the newest recording."
        ),
    ] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Only print the playlist's path.")
    ] = False,
    player: Annotated[
        str | None, typer.Option(help="The player's command; by default an installed one.")
    ] = None,
) -> None:
    """Play a recording from a given time, also while it is being recorded."""
    from db.session import make_engine
    from flows.objects.configured import copies_of
    from flows.recordings.play import open_player, parse_moment, playlist_at, start_text
    from flows.stack.processes.existing_database import existing_database

    settings = load_settings()
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        playlist, start = playlist_at(
            engine,
            channel,
            parse_moment(at) if at else None,
            recordings_dir=settings.recordings_dir,
            machine=settings.machine_name,
            copies=copies_of(settings),
        )
    if only_print:
        typer.echo(playlist)
        return
    plain_console(stderr=True).print(f"{channel} {start_text(start)}: {playlist}", soft_wrap=True)
    open_player(playlist, player)


@app.command()
def clip(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    file: Annotated[Path, typer.Argument(help="The file to write, FILE.mp4.")],
    begin: Annotated[str, typer.Option("--from", help="As --at of showmood play.")],
    end: Annotated[str, typer.Option("--to", help="The same, or how long: 45s, 2m30s.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file of that name.")] = False,
) -> None:
    """Cut a clip out of the recordings, without re-encoding."""

    from db.session import make_engine
    from flows.objects.configured import copies_of
    from flows.recordings.clip import clip as cut
    from flows.recordings.finding import local_time
    from flows.recordings.play import parse_moment
    from flows.show import DURATION_PATTERN, parse_duration
    from flows.stack.processes.existing_database import existing_database

    settings = load_settings()
    start = parse_moment(begin)
    stop = start + parse_duration(end) if re.match(DURATION_PATTERN, end) else parse_moment(end)
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        done = cut(
            engine,
            channel,
            start,
            stop,
            file,
            recordings_dir=settings.recordings_dir,
            machine=settings.machine_name,
            copies=copies_of(settings),
            force=force,
        )
    console = plain_console()
    for each in done:
        size = f"{each.width_px}x{each.height_px}"
        console.print(
            f"{each.path}: {local_time(each.begin)} to {local_time(each.end)}, "
            f"{each.duration_s:.1f} s, {size}",
            soft_wrap=True,
        )
        for gap_begin, gap_end, why in each.gaps:
            console.print(
                f"  left out {local_time(gap_begin)} to {local_time(gap_end)}: {why}",
                soft_wrap=True,
            )
    if done[-1].end < stop and (stop - done[-1].end).total_seconds() >= 0.1:
        console.print(f"  recorded until {local_time(done[-1].end)} only", soft_wrap=True)
