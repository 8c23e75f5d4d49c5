"""showmood worker: shows of a Prefect server elsewhere, watched on this machine."""

import os
from typing import Annotated

import typer
from rich.console import Console

from flows.commands import load_settings

app = typer.Typer()


@app.command()
def worker(
    pool: Annotated[
        list[str] | None,
        typer.Option(help="A work pool to serve, more than once if need be; SHOWMOOD_WORK_POOLS."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Shows at once; SHOWMOOD_WORKER_LIMIT if left out.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the server calls it; this machine's name if left out.")
    ] = None,
) -> None:
    """Watch shows here for a Prefect server elsewhere, as `showmood up` does for its own.

    PREFECT_API_URL names the server, PREFECT_API_AUTH_STRING or PREFECT_API_KEY what it asks for,
    SHOWMOOD_DATABASE_URL the database. Runs until Ctrl-C; shows that run then go on to their end.
    """
    from flows.stack.workers.worker import run_worker

    settings = load_settings()
    console = Console(stderr=True, markup=False)
    run_worker(
        settings,
        os.environ,
        pools=tuple(pool or settings.work_pools),
        limit=limit or settings.worker_limit,
        name=name,
        echo=lambda line: console.print(line, soft_wrap=True, highlight=False),
    )
