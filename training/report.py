"""How good the shipped network is: the files as shipped, loaded as production loads them.

    python -m training.report --data DIR --card emotion/weights/showmood-expression-1.md \\
        --picture docs/accuracy-confusion.png

Writes the figures into the card between its two marks, and the confusion matrix as a picture.
"""

import argparse
import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from emotion import weights
from emotion.types import EMOTIONS
from training.duplicates import SIMILAR
from training.measure import Figures, figures
from training.ship import GOALS, NAME

log = logging.getLogger("training")

PEER: Final = "mini-xception"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goals(of: Figures) -> str:
    """Each goal, the figure, and whether it is met."""
    drop = max(
        of.votes.accuracy - value
        for name, value in of.disturbed.items()
        if name in ("roll 15°", "roll -15°", "24 px")
    )
    wanted = [
        ("FER+ accuracy", of.votes.accuracy, GOALS["votes_accuracy"], True),
        ("FER+ mean recall", of.votes.mean_recall, GOALS["votes_recall"], True),
        ("FER+ expected calibration error", of.votes.calibration_error, 0.04, False),
        ("FER2013 accuracy", of.keyword.accuracy, GOALS["keyword_accuracy"], True),
        ("FER2013 mean recall", of.keyword.mean_recall, GOALS["keyword_recall"], True),
        ("accuracy lost at 15° or 24 px, at worst", drop, 0.04, False),
        ("a face at batch 32, share of the detector's frame", of.speed.share, 1 / 3, False),
    ]
    rows = [
        [
            what,
            f"{'≥' if more else '≤'} {100 * goal:.0f} %",
            _percent(value),
            "met" if (value >= goal if more else value <= goal) else "**missed**",
        ]
        for what, value, goal, more in wanted
    ]
    return table(["Goal", "", "measured", ""], rows)


def markdown(measured: dict[str, Figures], counts: dict[str, int]) -> str:
    """The whole report."""
    names = list(measured)
    ours = measured[names[0]]
    of = list(measured.values())

    def row(what: str, values: list[str]) -> list[str]:
        return [what, *values]

    summary = [
        row(
            f"FER+ majority ({ours.votes.n} faces): accuracy",
            [_percent(f.votes.accuracy) for f in of],
        ),
        row("– mean recall, classes that occur (8)", [_percent(f.votes.mean_recall) for f in of]),
        row("– macro F1", [f"{f.votes.macro_f1:.3f}" for f in of]),
        row(
            "– expected calibration error, 15 bins",
            [f"{f.votes.calibration_error:.3f}" for f in of],
        ),
        row(
            f"– accuracy without near-duplicates ({ours.unseen_votes.n})",
            [_percent(f.unseen_votes.accuracy) for f in of],
        ),
        row("– mean recall without them", [_percent(f.unseen_votes.mean_recall) for f in of]),
        row(
            f"FER2013 label ({ours.keyword.n} faces): accuracy",
            [_percent(f.keyword.accuracy) for f in of],
        ),
        row("– mean recall (7)", [_percent(f.keyword.mean_recall) for f in of]),
        row(
            f"– accuracy without near-duplicates ({ours.unseen_keyword.n})",
            [_percent(f.unseen_keyword.accuracy) for f in of],
        ),
        row("– mean recall without them", [_percent(f.unseen_keyword.mean_recall) for f in of]),
        row(
            f"Where both labels agree ({ours.clean.n} faces): accuracy",
            [_percent(f.clean.accuracy) for f in of],
        ),
        row("– mean recall (7)", [_percent(f.clean.mean_recall) for f in of]),
        row(
            f"FER+, found and cropped by our detector ({ours.detected.n} faces): accuracy",
            [_percent(f.detected.accuracy) for f in of],
        ),
        row("Parameters", [f"{f.parameters:,}" for f in of]),
        row("ms a face, batch 1", [f"{f.speed.batch_1_ms:.2f}" for f in of]),
        row("ms a face, batch 32", [f"{f.speed.batch_32_ms:.2f}" for f in of]),
        row("– share of the detector's time for a frame", [f"{f.speed.share:.2f}" for f in of]),
    ]
    recall = [
        row(
            emotion,
            [
                text
                for f in of
                for text in (_percent(f.votes.recall[k]), _percent(f.keyword.recall[k]))
            ],
        )
        for k, emotion in enumerate(EMOTIONS)
    ]
    disturbed = [
        row(
            name,
            [
                f"{_percent(value)} ({100 * (value - f.votes.accuracy):+.1f})"
                for f in of
                for value in [f.disturbed[name]]
            ],
        )
        for name in ours.disturbed
    ]
    heads = [f"{name}, {labels}" for name in names for labels in ("FER+", "FER2013")]
    return "\n\n".join(
        (
            goals(ours),
            table(["Test faces", *names], summary),
            f"Our detector finds a face in {counts['found_by_detector']} of the {counts['test']} "
            f"test pictures, enlarged four times with a border. {counts['test_near_duplicates']} "
            f"of them have a near-duplicate (correlation at least {SIMILAR}, also mirrored) among "
            "the training or validation pictures. Milliseconds are cropping and network together, "
            f"on two CPU cores; the detector took {ours.speed.detector_ms:.1f} ms for a 640x360 "
            "frame in the same run.",
            "Recall of each emotion:",
            table(["", *heads], recall),
            "FER+ accuracy under disturbance, and what it costs in points:",
            table(["", *names], disturbed),
        )
    )


def confusion_picture(path: Path, measured: dict[str, Figures]) -> None:
    """Confusion matrices side by side, rows in shares of the label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(measured), 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, of) in zip(
        figure.subplots(1, len(measured), squeeze=False)[0], measured.items(), strict=True
    ):
        counts = of.votes.confusion
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set(
            title=f"{name}: {_percent(of.votes.accuracy)}",
            xlabel="answer",
            ylabel="majority of ten annotators",
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
    """Put the figures between the card's marks; raises ValueError where it has none."""
    card = path.read_text()
    head, mark, rest = card.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


def report(directory: Path, file: Path | None = None) -> tuple[str, dict[str, Figures]]:
    """Measure the shipped network, or that of another file, and the peer; Markdown and figures."""
    ours = weights.emotion_model(NAME)
    if file is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        ours = replace(ours, origin=weights.Shipped(file=str(file.resolve()), sha256=digest))
    measured, counts = figures(directory, [ours, weights.emotion_model(PEER)])
    return markdown(measured, counts), measured


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--file", type=Path, help="another safetensors file than what ships")
    parser.add_argument("--card", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    text, measured = report(arguments.data, arguments.file)
    log.info("\n%s", text)
    if arguments.card:
        write_card(arguments.card, text)
    if arguments.picture:
        confusion_picture(arguments.picture, measured)


if __name__ == "__main__":
    main()
