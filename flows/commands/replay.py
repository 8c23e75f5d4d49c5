"""showmood replay: what was recorded, analysed again."""

import logging
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from flows.commands import load_settings
from flows.commands.options import Detector, EmotionModel, Fps

app = typer.Typer()


@app.command()
def replay(
    channel: Annotated[str, typer.Argument(help="The channel's name.")],
    begin: Annotated[
        str, typer.Option("--from", help="A time, or how long ago: 2026-11-22T20:00:00+01:00, 2h.")
    ],
    end: Annotated[str, typer.Option("--to", help="The same; now if left out.")] = "",
    emotion_model: EmotionModel = None,
    detector: Detector = None,
    fps: Fps = 5.0,
) -> None:
    """Analyse a stretch of a channel again, from its recording, and replace its rows.

    With another network, or where analysis had fallen behind. What has no file any more keeps the
    rows that it has.
    """
    from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
    from flows.reanalyse import Again, analyse_again
    from flows.show import parse_since, parse_until
    from flows.stack.existing_database import existing_database

    settings = load_settings()
    what = Again(
        channel=channel,
        begin=parse_since(begin),
        end=parse_until(end),
        fps=fps,
        detector=detector or DEFAULT_DETECTOR,
        emotion_model=emotion_model or DEFAULT_EMOTION_MODEL,
    )
    with ExitStack() as stack:
        address = existing_database(settings, stack)
        shown = stack.enter_context(Progress(console=Console(stderr=True)))
        task = shown.add_task(channel, total=100)
        counts = analyse_again(
            settings,
            address,
            what,
            log=logging.getLogger("showmood"),
            tell=lambda share: shown.update(task, completed=share),
            holder="showmood replay",
        )
    Console(stderr=True).print(f"{channel}: {counts.said()}", highlight=False)
