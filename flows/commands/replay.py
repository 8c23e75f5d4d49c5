"""showmood replay: analyses recordings again."""

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from flows.commands import load_settings
from flows.commands.options import Detector, EmotionModel, Fps
from flows.commands.terminal import plain_console

if TYPE_CHECKING:
    from flows.control.client.wide_replay import Outcome
    from flows.reanalyse import Reanalysis
    from flows.settings import Settings

app = typer.Typer()


@app.command()
def replay(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    begin: Annotated[
        str, typer.Option("--from", help="A time, or how long ago: 2026-11-22T20:00:00+01:00, 2h.")
    ],
    end: Annotated[str, typer.Option("--to", help="The same; by default now.")] = "",
    emotion_model: EmotionModel = None,
    detector: Detector = None,
    fps: Fps = 5.0,
    wide: Annotated[
        bool,
        typer.Option(
            help="As runs of the Prefect server, one a broadcast, on all machines in parallel; "
            "the same command again continues them."
        ),
    ] = False,
) -> None:
    """Analyse part of a channel's recording again, and replace its rows.

    For another network, or where analysis had fallen behind. Segments without a file keep their
    rows.
    """
    from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
    from flows.reanalyse import Reanalysis, reanalyse_range
    from flows.show import parse_since, parse_until
    from flows.stack.processes.existing_database import existing_database

    settings = load_settings()
    what = Reanalysis(
        channel=channel,
        begin=parse_since(begin),
        end=parse_until(end),
        fps=fps,
        detector=detector or DEFAULT_DETECTOR,
        emotion_model=emotion_model or DEFAULT_EMOTION_MODEL,
    )
    if wide:
        _by_runs(settings, what)
        return
    with ExitStack() as stack:
        address = existing_database(settings, stack)
        shown = stack.enter_context(Progress(console=Console(stderr=True)))
        task = shown.add_task(channel, total=100)
        counts = reanalyse_range(
            settings,
            address,
            what,
            log=logging.getLogger("showmood"),
            on_progress=lambda share: shown.update(task, completed=share),
            holder="showmood replay",
        )
    plain_console(stderr=True).print(f"{channel}: {counts.summary()}", highlight=False)


def _by_runs(settings: "Settings", what: "Reanalysis") -> None:
    import httpx

    from db.reading.parts import parts_between
    from db.session import make_engine
    from flows.control.client.wide_replay import Piece, replay_wide
    from flows.errors import StackError, UsageError
    from flows.shows.applying import credentials, server_environment
    from flows.stack.processes.existing_database import existing_database

    env = server_environment(settings)
    with ExitStack() as stack:
        engine = make_engine(existing_database(settings, stack))
        stack.callback(engine.dispose)
        with engine.connect() as connection:
            parts = parts_between(connection, what.channel, what.begin, what.end)
        how = {
            "channel": what.channel,
            "analysed_fps": what.fps,
            "detector": what.detector,
            "emotion_model": what.emotion_model,
        }
        pieces = [
            Piece(
                parameters=how
                | {
                    "start": max(part.started_at, what.begin).isoformat(),
                    "end": min(part.ended_at, what.end).isoformat(),
                },
                machine=None if settings.recordings_store else part.machine,
                key=f"replay {part.broadcast_id} {max(part.started_at, what.begin).isoformat()} "
                f"{min(part.ended_at, what.end).isoformat()} "
                f"{what.detector} {what.emotion_model} {what.fps:g}",
            )
            for part in parts
            if part.status != "live"
        ]
        if not pieces:
            raise UsageError(f"{what.channel}: no recording of an ended show in that time")
        shown = stack.enter_context(Progress(console=Console(stderr=True)))
        task = shown.add_task(f"{what.channel}, {len(pieces)} broadcasts", total=100)
        try:
            outcome = replay_wide(
                pieces,
                api_url=env["PREFECT_API_URL"],
                headers=credentials(env),
                on_progress=lambda share: shown.update(task, completed=share),
            )
        except httpx.HTTPError as e:
            raise StackError(
                f"the Prefect server at {env['PREFECT_API_URL']} does not answer, or refuses: {e!r}"
            ) from e
    print_outcome(what.channel, outcome)
    if outcome.failed:
        raise typer.Exit(1)


def print_outcome(channel: str, outcome: "Outcome") -> None:
    """Print the outcome of the runs; a server's text is not markup."""
    console = Console(stderr=True, markup=False, highlight=False)
    for line in outcome.failed:
        console.print(line, soft_wrap=True)
    n_runs = outcome.done + len(outcome.failed)
    console.print(f"{channel}: {outcome.done} of {n_runs} runs are done", soft_wrap=True)
