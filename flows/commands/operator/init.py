"""showmood init: writes the files that an operator edits."""

from typing import Annotated

import typer

from flows.commands.terminal import plain_console

app = typer.Typer()


@app.command()
def init(
    systemd: Annotated[
        bool,
        typer.Option("--systemd", help="Write a unit for systemd instead, which runs up here."),
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker", help="With --systemd: the unit runs a worker here.")
    ] = False,
) -> None:
    """Write a commented prefect.yaml and .env into this folder; files that are here stay."""
    from pathlib import Path

    from flows.errors import UsageError
    from flows.stack.init_files import NEXT, write_files, write_unit

    console = plain_console(stderr=True)
    if worker and not systemd:
        raise UsageError("--worker goes with --systemd: `showmood init --systemd --worker`")
    unit = systemd and write_unit(Path.cwd(), worker=worker)
    lines = unit or [*write_files(Path.cwd()), *NEXT]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
