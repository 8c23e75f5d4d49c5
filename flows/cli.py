"""showmood ...: the command line. Exit codes: 0 done, 1 our fault, 2 the input does not fit."""

import logging
import os
import sys

import typer

from flows.commands import again, database, evaluate, files, models, recordings, shows, watching
from flows.demo.errors import DemoError
from flows.errors import EXPECTED

app = typer.Typer(
    name="showmood",
    help="Watches recurring live shows and keeps an emotion history that you query with SQL.\n\n"
    "Start with [bold]showmood demo[/bold]; then [bold]showmood up[/bold] leaves the same stack "
    "running, with the Prefect UI to schedule, start and stop shows.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(watching.app)
app.add_typer(shows.deploying)
app.add_typer(shows.app, name="shows")
app.add_typer(files.app)
app.add_typer(recordings.app)
app.add_typer(again.app)
app.add_typer(evaluate.app)
app.add_typer(models.app, name="models")
app.add_typer(database.app, name="db")


def main() -> None:
    """Run the command line."""
    # Before torch is loaded: threads that spin while they wait starve ffmpeg and Postgres.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    for noisy in ("httpx", "httpcore", "alembic", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except (*EXPECTED, DemoError) as e:
        typer.echo(f"showmood: {e}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
