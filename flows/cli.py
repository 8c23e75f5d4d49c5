"""The command line `showmood`. Exit codes: 0 done, 1 internal error, 2 invalid input."""

import logging
import os
import sys
from typing import Annotated

import typer

from flows.commands import evaluate, files, forget, page, recordings, shows, watching
from flows.commands import replay as replaying
from flows.commands.operator import access, database, models, sources, status, worker
from flows.commands.operator import init as starting

app = typer.Typer(
    name="showmood",
    help="Watches recurring live shows and keeps an emotion history that you query with SQL.\n\n"
    "Start with [bold]showmood demo[/bold]; then [bold]showmood up[/bold] leaves the same stack "
    "running, with the Prefect UI to schedule, start and stop shows.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(watching.app)
app.add_typer(starting.app)
app.add_typer(status.app)
app.add_typer(worker.app)
app.add_typer(shows.deploying)
app.add_typer(access.app)
app.add_typer(shows.app, name="shows")
app.add_typer(sources.app, name="sources")
app.add_typer(files.app)
app.add_typer(recordings.app)
app.add_typer(page.app)
app.add_typer(forget.app)
app.add_typer(replaying.app)
app.add_typer(evaluate.app)
app.add_typer(models.app, name="models")
app.add_typer(database.app, name="db")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"showmood {version('showmood')}")
        raise typer.Exit


@app.callback()
def showmood(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Parse the options before a command."""


def main() -> None:
    """Run the command line."""
    # Before torch is loaded: OpenMP threads that spin while idle starve ffmpeg and Postgres.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    for noisy in ("httpx", "httpcore", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except Exception as e:
        # Not at the top: `--help` and shell completion need not load these.
        from flows.commands.work.database_errors import explained
        from flows.demo.errors import DemoError
        from flows.errors import EXPECTED

        message = e if isinstance(e, (*EXPECTED, DemoError)) else explained(e)
        if message is None:
            raise
        typer.echo(f"showmood: {message}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
