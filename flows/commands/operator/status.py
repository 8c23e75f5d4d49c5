"""showmood status: the state of the installation, and its problems."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands import load_settings

if TYPE_CHECKING:
    from flows.stack.status import StackStatus

app = typer.Typer()


@app.command()
def status(
    json_object: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for monitoring.")
    ] = False,
) -> None:
    """Show database, server, workers, each channel's newest segment, disk and versions.

    Starts nothing. The exit code is 0 without problems, else 1.
    """
    import json

    from flows.stack.status import as_json, read_status

    now = datetime.now(UTC)
    found = read_status(load_settings(), {}, now)
    if json_object:
        typer.echo(json.dumps(as_json(found)))
    else:
        _print(found, now)
    raise typer.Exit(1 if found.problems else 0)


def _print(found: "StackStatus", now: datetime) -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False)
    table.add_column("", style="dim")
    table.add_column("", overflow="fold")
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items() if version)
    age = f" ({found.yt_dlp_age_days} days old)" if found.yt_dlp_age_days is not None else ""
    workers = ", ".join(f"{name} {state.lower()}" for name, state in found.workers.items())
    free = f"{found.free_disk_mb / 1024:.1f} GB free" if found.free_disk_mb is not None else "?"
    for name, value in (
        ("home", found.home),
        ("database", found.database),
        ("Prefect server", found.server),
        ("workers", workers or "none"),
        ("machines", "\n".join(f"{name}: {state}" for name, state in found.machines.items())),
        ("disk", free),
        ("versions", versions.replace("yt-dlp", f"yt-dlp{age}", 1) if age else versions),
    ):
        table.add_row(name, escape(str(value)))
    console.print(table)
    if found.channels:
        channels = Table(box=None, header_style="bold")
        for column in ("channel", "", "newest segment", "closed to rows"):
            channels.add_column(column)
        for each in found.channels:
            newest = "nothing stored"
            if each.newest is not None:
                ago_s = (now - each.newest).total_seconds()
                newest = f"{each.newest:%Y-%m-%d %H:%M:%S} UTC"
                newest += f", {ago_s:.1f} s ago" if each.on_air else ""
            lag = f"{each.lag_ms} ms" if each.lag_ms is not None else ""
            channels.add_row(each.channel, "on air" if each.on_air else "", newest, lag)
        console.print()
        console.print(channels)
    console.print()
    for problem in found.problems:
        console.print(f"[bold]look:[/bold] {escape(problem)}", soft_wrap=True)
    if not found.problems:
        console.print("all is well")
