"""showmood analyze, report: analyse files into the database, and report from it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands import load_settings
from flows.commands.options import Detector, EmotionModel, Fps, Quiet

app = typer.Typer()


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help="A recorded video.")],
    start: Annotated[
        str | None,
        typer.Option(
            help="Time of its first frame, as 2026-11-22T20:00:00+01:00; by default the "
            "container's creation time, else its modification time minus its length."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The channel's name; by default from the file's name.")
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a face, without a database.")
    ] = False,
    fps: Fps = 5.0,
    detector: Detector = None,
    emotion_model: EmotionModel = None,
    smoothing: Annotated[
        Literal["centred", "causal"],
        typer.Option(help="centred: over past and future frames; causal: past only, as live."),
    ] = "centred",
    quiet: Quiet = False,
) -> None:
    """Analyse a recorded file into the database, or with --json to stdout."""
    from flows.commands.work.in_process import analyse_here

    analyse_here(
        load_settings(),
        file,
        start=start,
        name=name,
        json_lines=json_lines,
        fps=fps,
        detector=detector,
        emotion_model=emotion_model,
        smoothing=smoothing,
        quiet=quiet,
    )


@app.command()
def report(
    channel: Annotated[
        str | None, typer.Argument(help="The channel's name; without one, lists the channels.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Begin: 30m, 24h, 7d (ago), or a day: 2026-11-22; by default 24h."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="End; by default now.")] = None,
    show: Annotated[
        str | None,
        typer.Option(
            help="One show: its number (broadcast_id), the day it began, a time when it was on "
            "air, its title, or last."
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw the timeline into this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="The same, as SVG.")] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Also write every face into this file, as CSV; - is stdout."),
    ] = None,
    json_lines: Annotated[
        Path | None, typer.Option("--json", help="The same, as one JSON object a line.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="The same, as Parquet (needs showmood\\[parquet]).")
    ] = None,
    rows: Annotated[
        Literal["faces", "frames", "seconds", "shots", "tracks"],
        typer.Option(help="What a row of these files is."),
    ] = "faces",
    words: Annotated[
        Literal["showmood", "openface"],
        typer.Option(
            "--format",
            help="openface: a row for every analysed frame, with OpenFace's and py-feat's columns.",
        ),
    ] = "showmood",
    quiet: Quiet = False,
) -> None:
    """Report on a channel: tracks, share of each emotion, lag, gaps."""
    from flows.commands.work.report_channel import Wanted, report_channel

    report_channel(
        load_settings(),
        channel,
        wanted=Wanted(since=since, until=until, show=show),
        pictures={"png": png, "svg": svg},
        exports={"csv": csv, "json": json_lines, "parquet": parquet},
        kind=rows,
        words=words,
        quiet=quiet,
    )
