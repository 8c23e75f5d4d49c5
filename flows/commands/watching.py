"""showmood demo, up, watch: watches live shows."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands import load_settings
from flows.commands.options import Detector, EmotionModel, Fps, Quiet

app = typer.Typer()


@app.command()
def demo(
    video: Annotated[
        Path | None, typer.Option(help="Play this clip as the live show, not the built-in one.")
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="How much of the show to watch.")] = "30s",
) -> None:
    """Run the main job once, end to end, and print a report made by SQL.

    Starts a live HLS channel on loopback, a Prefect server and worker, ffmpeg, the networks and
    Postgres, watches the channel, and stops them again. The rows stay.
    """
    from flows.stack.demo_and_up import run_demo

    run_demo(load_settings(), video=video, duration=duration, console=Console())


@app.command()
def up() -> None:
    """Start the embedded stack and leave it running until Ctrl-C.

    Postgres, the Prefect server with its UI, a worker and the demo channel; the deployments of
    prefect.yaml are applied, with active schedules. The data are kept for the next start.
    """
    from flows.stack.demo_and_up import run_up

    run_up(load_settings(), console=Console())


@app.command()
def watch(
    url: Annotated[str, typer.Argument(help="The live stream: its page, or its playlist.")],
    duration: Annotated[str, typer.Option("--for", help="As 30s, 45m or 1h30m.")] = "1h",
    name: Annotated[
        str | None,
        typer.Option(help="The channel's name in the database; by default from the URL."),
    ] = None,
    give_up_after: Annotated[
        str,
        typer.Option(help="Longest wait for a show that has not begun, or is off air: 0s, 10m."),
    ] = "10m",
    quality: Annotated[
        str, typer.Option(help="Record at most 480p, 720p, 1080p; verbatim: the best there is.")
    ] = "720p",
    audio_language: Annotated[
        str, typer.Option(help="Language of the audio, where there are several: en, de, pt-BR.")
    ] = "",
    fps: Fps = 5.0,
    detector: Detector = None,
    emotion_model: EmotionModel = None,
    quiet: Quiet = False,
) -> None:
    """Watch a live stream now, in this process, and store the results.

    Ctrl-C ends it early; segments recorded until then are analysed and stored.
    """
    from flows.commands.work.in_process import watch_here

    watch_here(
        load_settings(),
        url=url,
        duration=duration,
        name=name,
        give_up_after=give_up_after,
        quality=quality,
        audio_language=audio_language,
        analysed_fps=fps,
        detector=detector,
        emotion_model=emotion_model,
        quiet=quiet,
    )
