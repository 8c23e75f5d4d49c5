"""showmood init: the files that an operator edits."""

import typer
from rich.console import Console

app = typer.Typer()


@app.command()
def init() -> None:
    """Write a commented prefect.yaml and .env into this folder; files that are here stay."""
    from pathlib import Path

    from flows.starting import NEXT, write_files

    console = Console(stderr=True)
    for line in [*write_files(Path.cwd()), *NEXT]:
        console.print(line, soft_wrap=True, highlight=False)
