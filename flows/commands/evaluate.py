"""showmood evaluate: measures a network on labelled pictures."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands import load_settings
from flows.commands.options import Detector

app = typer.Typer()


@app.command()
def evaluate(
    pictures: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_CSV",
            help="A folder with a folder of pictures for each emotion, or a CSV file with the "
            "columns path, label and, optionally, group.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The emotion net (see showmood models).")
    ] = None,
    crops: Annotated[
        bool, typer.Option("--crops", help="Each picture is the crop of a face: detect none.")
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Meaning of numbered labels: fer2013, raf-db, affectnet, or 1=surprise,2=fear,..."
        ),
    ] = None,
    detector: Detector = None,
    json_object: Annotated[
        bool, typer.Option("--json", help="Print one JSON object to stdout.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option(help="Also draw the confusion matrix and calibration.")
    ] = None,
) -> None:
    """Measure an emotion net on labelled pictures: accuracy, F1, confusion, calibration."""
    from flows.report.evaluation import evaluate_here

    evaluate_here(
        load_settings(),
        pictures,
        model=model,
        detector=detector,
        crops=crops,
        classes=classes,
        json_object=json_object,
        png=png,
        console=Console(),
    )
