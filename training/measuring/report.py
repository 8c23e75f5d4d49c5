"""Report on the shipped network, from the shipped files, loaded as in production.

    python -m training.measuring.report --data DIR \\
        --card emotion/weights/showmood-expression-2.md \\
        --docs docs/accuracy.md --picture docs/accuracy-confusion.png

Writes the figures between the marks of card and document, and the confusion matrices as a
picture.
"""

import argparse
import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from emotion.types import EMOTIONS
from emotion.weights import store as weights
from training.learning.ship import NAME
from training.measuring.measure import Figures, figures, networks
from training.measuring.measure_press import press_measured
from training.measuring.tables import goals, on_fer, on_press, percent

log = logging.getLogger("training")

PEERS: Final = ("mini-xception",)
"""The network for comparison: the default of `fer`."""
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def confusion_picture(path: Path, measured: dict[str, Figures]) -> None:
    """Confusion matrices side by side, rows normalised by the label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(measured), 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, of) in zip(
        figure.subplots(1, len(measured), squeeze=False)[0], measured.items(), strict=True
    ):
        counts = of.official.confusion
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set(
            title=f"{name}: {percent(of.official.accuracy)}",
            xlabel="answer",
            ylabel="what most of ten annotators said",
            xticks=range(len(EMOTIONS)),
            yticks=range(len(EMOTIONS)),
            yticklabels=[f"{e} ({n})" for e, n in zip(EMOTIONS, counts.sum(axis=1), strict=True)],
        )
        axes.set_xticklabels(EMOTIONS, rotation=45, ha="right")
        for (i, j), value in np.ndenumerate(share):
            if value >= 0.005:
                colour = "white" if value > 0.5 else "black"
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def write_card(path: Path, text: str) -> None:
    """Write the figures between the card's marks; raise ValueError without marks."""
    card = path.read_text()
    head, mark, rest = card.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The measurements, and their texts for the model card and for `docs/accuracy.md`."""

    measured: dict[str, Figures]
    card: str
    press: str


def report(directory: Path, file: Path | None = None) -> Report:
    """Measure the shipped network, or another file, and the networks for comparison."""
    ours = weights.emotion_model(NAME)
    if file is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        ours = replace(ours, origin=weights.Shipped(file=str(file.resolve()), sha256=digest))
    models = [ours, *(weights.emotion_model(name) for name in PEERS)]
    detector, classifiers = networks(models)
    measured, counts = figures(directory, detector, classifiers)
    press = press_measured(directory, classifiers, detector)
    head = goals(measured[NAME], press[NAME])
    return Report(
        measured=measured,
        card="\n\n".join((head, on_fer(measured, counts))),
        press="\n\n".join((head, on_press(press))),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="another safetensors file than what ships")
    parser.add_argument("--card", type=Path)
    parser.add_argument("--docs", type=Path, help="the page for press photographs")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    made = report(arguments.data, arguments.file)
    log.info("\n%s\n\n%s", made.card, made.press)
    if arguments.card:
        write_card(arguments.card, made.card)
    if arguments.docs:
        write_card(arguments.docs, made.press)
    if arguments.picture:
        confusion_picture(arguments.picture, made.measured)


if __name__ == "__main__":
    main()
