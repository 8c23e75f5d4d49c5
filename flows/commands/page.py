"""showmood page, keep: serves the page; protects parts of recordings from deletion."""

from contextlib import ExitStack
from typing import Annotated

import typer
from rich.table import Table

from flows.commands import load_settings
from flows.commands.terminal import plain_console

app = typer.Typer()


@app.command()
def page(
    port: Annotated[
        int | None, typer.Option(help="Another port than SHOWMOOD_PAGE_PORT.", min=1, max=65535)
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch the browser libraries, and exit.")
    ] = False,
) -> None:
    """Serve the page of the shows until Ctrl-C: video, emotions and search, for any database."""
    from flows.page import vendor
    from flows.page.serving import (
        check,
        make_analyst,
        page_access,
        page_url,
        serve,
    )
    from flows.stack.processes.existing_database import existing_database
    from flows.stack.processes.home import make_home

    settings = load_settings()
    console = plain_console()
    if fetch:
        console.print(f"fetched: {vendor.fetch(cache_dir=settings.cache_dir)}", soft_wrap=True)
        return
    check(settings)
    make_home(settings.home)
    with ExitStack() as stack:
        url = existing_database(settings, stack)
        if settings.database_url is None:
            make_analyst(url)
        chosen = port or settings.page_port
        link = page_access(settings).link(page_url(settings, chosen))
        serve(
            settings,
            url,
            chosen,
            ready=lambda: console.print(f"the page: {link}", soft_wrap=True),
        )


@app.command()
def keep(
    channel: Annotated[str | None, typer.Argument(help="The channel's name.")] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="As --at of showmood play: 20:15, 10m or ISO.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="The same, or how long: 45s, 2m30s.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why it is kept.")] = "",
    let_go: Annotated[
        int | None, typer.Option("--let-go", help="Stop keeping this one (its number).")
    ] = None,
) -> None:
    """Protect a part of a recording from deletion; list the protected parts; --let-go ends it."""
    import re

    from db import keeping
    from db.session import make_engine
    from flows.errors import UsageError
    from flows.recordings.finding import local_time
    from flows.recordings.play import parse_moment
    from flows.show import DURATION_PATTERN, parse_duration
    from flows.stack.processes.existing_database import existing_database

    settings = load_settings()
    console = plain_console()
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        if let_go is not None:
            with engine.begin() as connection:
                if not keeping.let_go(connection, let_go):
                    raise UsageError(f"nothing is kept as {let_go}: showmood keep lists what is")
            console.print(f"{let_go} is not kept any more: it is deleted with its age")
            return
        if begin is None and end is None:
            with engine.connect() as connection:
                found = keeping.kept(connection, channel)
            table = Table("number", "channel", "from", "to", "note")
            for each in found:
                span = local_time(each.started_at), local_time(each.ended_at)
                table.add_row(str(each.id), each.channel, *span, each.note)
            console.print(table if found else "nothing is kept")
            return
        if channel is None or begin is None or end is None:
            raise UsageError(
                "name a channel, --from and --to: showmood keep NAME --from 20:15 --to 45s"
            )
        start = parse_moment(begin)
        is_length = re.match(DURATION_PATTERN, end)
        stop = start + parse_duration(end) if is_length else parse_moment(end)
        with engine.begin() as connection:
            try:
                number = keeping.keep(connection, channel, start, stop, note)
            except ValueError as e:
                raise UsageError(str(e)) from e
    console.print(
        f"kept as {number}: {channel}, {local_time(start)} to {local_time(stop)}", soft_wrap=True
    )
