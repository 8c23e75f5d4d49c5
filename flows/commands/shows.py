"""showmood deploy, shows: puts prefect.yaml on the server; lists, adds and removes its shows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands import load_settings
from flows.commands.terminal import plain_console

deploying = typer.Typer()
app = typer.Typer(help="The shows of prefect.yaml: list them, add one, remove one.")
console = plain_console(stderr=True)

File = Annotated[
    Path | None,
    typer.Option(help="A prefect.yaml; by default the one here, else the packaged one."),
]


def _file(given: Path | None) -> Path:
    from flows.control.client.api import prefect_file

    return given or prefect_file()


@deploying.command()
def deploy(
    file: File = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also delete deployments that are not in the file.")
    ] = False,
) -> None:
    """Put prefect.yaml on the Prefect server: shows, slots, pools, and automations, switched off.

    The server is that of `showmood up`, or PREFECT_API_URL. Slots that are no longer in the file
    are removed; slots that were paused or made in the UI stay as they are.
    """
    from flows.control import healing
    from flows.shows.applying import apply_showfile, credentials, server_environment

    settings = load_settings()
    env = server_environment(settings)
    done = apply_showfile(
        _file(file),
        env,
        prune=prune,
        notify_block=settings.notify_block,
        echo=lambda line: console.print(line, soft_wrap=True, highlight=False),
    )
    healing.apply(
        env["PREFECT_API_URL"],
        dead_after_s=settings.dead_after_s,
        headers=credentials(env),
    )
    n_slots = sum(len(each.slots) for each in done)
    console.print(f"{len(done)} deployments with {n_slots} slots are in place", highlight=False)


@app.callback(invoke_without_command=True)
def shows(context: typer.Context, file: File = None) -> None:
    """List the shows, their slots, and when each is on air next."""
    if context.invoked_subcommand is not None:
        return
    from flows.errors import StackError
    from flows.shows.applying import paused_slots, server_environment
    from flows.shows.showfile import read_showfile

    deployments = read_showfile(_file(file))
    paused, why = None, ""
    try:
        paused = paused_slots(server_environment(load_settings()))
    except StackError as e:
        why = str(e)
    table = Table(box=None, header_style="bold")
    for column in ("show", "slot", "for", "next start", "URL"):
        table.add_column(column, overflow="fold")
    now = datetime.now(UTC)
    for each in deployments:
        if not each.is_show:
            continue
        if not each.slots:
            length = each.show.duration if each.show else ""
            table.add_row(each.name, "by hand", length, "", each.show.url if each.show else "")
        for of in each.slots:
            start = of.slot.next_start(now)
            if (each.name, of.slot.slug) in (paused or ()):
                when = "paused"
            elif paused is None and not of.slot.active:
                when = "inactive"
            else:
                when = f"{start:%a %Y-%m-%d %H:%M %Z}" if start else "never again"
            length = of.show.duration if of.show else ""
            table.add_row(each.name, of.slot.summary, length, when, of.show.url if of.show else "")
    plain_console().print(table)
    if paused is None:
        console.print(f"(read from the file only: {why})", soft_wrap=True, highlight=False)


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="The live stream: its page, or its playlist.")],
    name: Annotated[str, typer.Option(help="The show's name, also its channel's.")],
    cron: Annotated[str | None, typer.Option(help="When, such as '0 20 * * 1-5'.")] = None,
    rrule: Annotated[
        str | None, typer.Option(help="When, such as 'RRULE:FREQ=WEEKLY;BYDAY=SA;BYHOUR=21'.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of the times: Europe/Vienna.")] = "UTC",
    duration: Annotated[str, typer.Option("--for", help="As 30s, 45m or 1h30m.")] = "1h",
    pool: Annotated[str, typer.Option(help="The work pool whose workers watch it.")] = "shows",
    file: File = None,
) -> None:
    """Add a show with one slot to prefect.yaml; its comments stay. showmood deploy applies it."""
    from flows.control.client.api import own_prefect_file
    from flows.show import make_show
    from flows.shows.editing import add_show
    from flows.shows.slots import Slot

    make_show(url=url, name=name, duration=duration)
    slot = Slot.of(slug="slot-1", cron=cron, rrule=rrule, timezone=timezone)
    when = {"cron": cron} if cron is not None else {"rrule": rrule or ""}
    there = file or own_prefect_file()
    add_show(
        there,
        name=name,
        slot={"slug": slot.slug, **when, "timezone": timezone},
        parameters={"url": url, "name": name, "duration": duration},
        pool=pool,
    )
    start = slot.next_start()
    next_start = f"{start:%a %Y-%m-%d %H:%M %Z}" if start else "never"
    console.print(
        f"{name} is in {there}; on air next: {next_start}", soft_wrap=True, highlight=False
    )
    console.print("showmood deploy puts it on the server", highlight=False)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The show's name.")], file: File = None
) -> None:
    """Remove a show from prefect.yaml; its history stays. showmood deploy --prune applies it."""
    from flows.control.client.api import own_prefect_file
    from flows.shows.editing import remove_show

    there = file or own_prefect_file()
    remove_show(there, name)
    console.print(f"{name} is no longer in {there}", soft_wrap=True, highlight=False)
    console.print("showmood deploy --prune removes it from the server", highlight=False)
