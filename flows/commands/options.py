"""Options that several commands share."""

from typing import Annotated

import typer

Fps = Annotated[
    float, typer.Option(help="Frames analysed for each second of show.", min=0.1, max=60)
]
Detector = Annotated[str | None, typer.Option(help="The face detector (see showmood models).")]
EmotionModel = Annotated[
    str | None,
    typer.Option(
        help="The emotion net (see showmood models), or your own: an ONNX file with its card."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
