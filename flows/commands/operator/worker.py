"""showmood worker: watches shows of a remote Prefect server on this machine."""

import os
from typing import Annotated

import typer

from flows.commands import load_settings
from flows.commands.terminal import plain_console

app = typer.Typer()


@app.command()
def worker(
    pool: Annotated[
        list[str] | None,
        typer.Option(help="A work pool to serve; may be repeated; default SHOWMOOD_WORK_POOLS."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Shows at once; default SHOWMOOD_WORKER_LIMIT.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The worker's name; default this machine's name.")
    ] = None,
) -> None:
    """Watch shows on this machine for a remote Prefect server, as `showmood up` does for its own.

    PREFECT_API_URL names the server, PREFECT_API_AUTH_STRING or PREFECT_API_KEY its credentials,
    SHOWMOOD_DATABASE_URL the database. Runs until Ctrl-C; running shows then continue to their end.
    """
    from flows.stack.workers.worker import run_worker

    settings = load_settings()
    console = plain_console(stderr=True)
    run_worker(
        settings,
        os.environ,
        pools=tuple(pool or settings.work_pools),
        limit=limit or settings.worker_limit,
        name=name,
        echo=lambda line: console.print(line, soft_wrap=True, highlight=False),
    )
