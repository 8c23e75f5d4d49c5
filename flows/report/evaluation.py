"""Results of `showmood evaluate` on labelled pictures: as a table, as JSON, as a picture."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.device import choose_device
from emotion.evaluate import labelled
from emotion.evaluate.labelled import Labelled
from emotion.evaluate.measure import FOUND, NO_FACE, UNREADABLE, PictureEmotions, classify_pictures
from emotion.evaluate.score import Score, reliability, score
from emotion.types import EMOTIONS
from emotion.weights import store as weights
from flows.errors import UsageError
from flows.settings import Settings

_NAMED: Final = 10
"""Most unreadable pictures named in the table; the JSON object has all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Labelled pictures and the network's answers. lacks: labelled emotions it does not have."""

    model: str
    detector: str | None
    labelled: Labelled
    answers: PictureEmotions
    lacks: tuple[str, ...]

    def score(self, chosen: np.ndarray | None = None) -> Score:
        """Compare the pictures with a face, or those chosen of them."""
        rows = self.answers.state == FOUND
        if chosen is not None:
            rows = rows & chosen
        return score(self.answers.probs[rows], self.labelled.label[rows])

    def n(self, state: int) -> int:
        """Return the number of pictures with this state."""
        return int((self.answers.state == state).sum())

    @property
    def unreadable(self) -> list[str]:
        """Return the paths of the pictures that could not be read."""
        return [
            str(self.labelled.paths[i]) for i in np.flatnonzero(self.answers.state == UNREADABLE)
        ]

    @property
    def shown(self) -> list[int]:
        """Return the emotions that are labelled or answered, as indices into EMOTIONS."""
        confusion = self.score().confusion
        return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1)).tolist()

    @property
    def accuracy_of_all(self) -> float:
        """Return the accuracy where a picture without a found face counts as wrong."""
        right = np.diag(self.score().confusion).sum()
        return float(right / max(1, self.n(FOUND) + self.n(NO_FACE)))


def evaluate_here(
    settings: Settings,
    pictures: Path,
    *,
    model: str | None,
    detector: str | None,
    crops: bool,
    classes: str | None,
    json_object: bool,
    png: Path | None,
    console: Console,
) -> None:
    """Evaluate, and print the result. Raises UsageError or EmotionError, one line each."""
    if crops and detector is not None:
        raise UsageError("--crops detects no faces: leave out --detector")
    read = labelled.read(pictures, classes)
    device = choose_device(settings.device)
    emotions = weights.emotion_model(model or weights.DEFAULT_EMOTION_MODEL)
    weights.pull(emotions, settings.cache_dir)
    classifier = Classifier.of(emotions, cache_dir=settings.cache_dir, device=device)
    finder = None
    if not crops:
        faces = weights.detector_model(detector or weights.DEFAULT_DETECTOR)
        weights.pull(faces, settings.cache_dir)
        finder = Detector(weights.load(faces, settings.cache_dir), model=faces, device=device)
    labels = {EMOTIONS[k] for k in np.unique(read.label)}
    found = Evaluation(
        model=emotions.name,
        detector=None if crops else faces.name,
        labelled=read,
        answers=classify_pictures(read.paths, classifier, finder),
        lacks=tuple(e for e in EMOTIONS if e in labels - set(emotions.classes)),
    )
    if not found.n(FOUND):
        raise UsageError(
            f"{pictures}: {found.n(UNREADABLE)} pictures cannot be read, and in {found.n(NO_FACE)} "
            "no face was found" + ("" if crops else "; --crops, if each picture is a face's crop")
        )
    if png is not None:
        draw(found, png)
    if json_object:
        sys.stdout.write(json.dumps(as_json(found)) + "\n")
    else:
        print_evaluation(found, console)
        if png is not None:
            console.print(f"picture: {png}", soft_wrap=True, markup=False)


def as_json(found: Evaluation) -> dict[str, Any]:
    """Return all results as one JSON object; shares are 0 to 1, null where undefined."""
    s, shown = found.score(), found.shown
    return {
        "model": found.model,
        "detector": found.detector,
        "n": s.n,
        "accuracy": _number(s.accuracy),
        "macro_f1": _number(s.macro_f1),
        "mean_recall": _number(s.mean_recall),
        "ece": _number(s.calibration_error),
        "classes": [EMOTIONS[k] for k in shown],
        "confusion": s.confusion[np.ix_(shown, shown)].tolist(),
        "by_class": {EMOTIONS[k]: _of_class(s, k) for k in shown},
        "by_group": {
            name: {
                "n": of.n,
                "accuracy": _number(of.accuracy),
                "macro_f1": _number(of.macro_f1),
                "mean_recall": _number(of.mean_recall),
                "ece": _number(of.calibration_error),
            }
            for name, of in _groups(found)
        },
        "n_no_face": found.n(NO_FACE),
        "accuracy_no_face_wrong": _number(found.accuracy_of_all),
        "unreadable": found.unreadable,
        "left_out": dict(found.labelled.left_out),
        "lacks": list(found.lacks),
    }


def _of_class(s: Score, k: int) -> dict[str, float | int | None]:
    return {
        "n": int(s.confusion[k].sum()),
        "answered": int(s.confusion[:, k].sum()),
        "recall": _number(float(s.recall[k])),
        "precision": _number(float(s.precision[k])),
    }


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _groups(found: Evaluation) -> list[tuple[str, Score]]:
    group = np.array(found.labelled.group)
    return [(str(name), found.score(group == name)) for name in np.unique(group)]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def print_evaluation(found: Evaluation, console: Console) -> None:
    """Print the results as tables."""
    s = found.score()
    console.print(f"[bold]{escape(found.model)}[/bold]: {s.n} faces", soft_wrap=True)
    console.print(
        f"accuracy {_percent(s.accuracy)}, macro F1 {_percent(s.macro_f1)}, mean recall "
        f"{_percent(s.mean_recall)}, calibration error {_percent(s.calibration_error)}",
        soft_wrap=True,
    )
    for line in _remarks(found):
        console.print(line, soft_wrap=True, markup=False)
    table = Table(
        title="rows: labels; columns: answers; recall and precision in %",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for column in ("", "faces", "recall", "prec.", *(EMOTIONS[k][:4] for k in found.shown)):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for k in found.shown:
        counts = [str(n) if n else "·" for n in s.confusion[k, found.shown].tolist()]
        shares = (_percent(float(of[k])).removesuffix(" %") for of in (s.recall, s.precision))
        table.add_row(EMOTIONS[k], str(s.confusion[k].sum()), *shares, *counts)
    console.print(table)
    if found.labelled.group:
        groups = Table(box=None, header_style="bold")
        for column in ("group", "faces", "accuracy", "macro F1", "mean recall", "calibration"):
            groups.add_column(column, justify="left" if column == "group" else "right")
        for name, of in _groups(found):
            figures = (of.accuracy, of.macro_f1, of.mean_recall, of.calibration_error)
            groups.add_row(escape(name), str(of.n), *map(_percent, figures))
        console.print(groups)


def _remarks(found: Evaluation) -> list[str]:
    lines = []
    if found.n(NO_FACE):
        lines.append(
            f"no face was found in {found.n(NO_FACE)} pictures: they are left out; were they "
            f"counted as wrong, accuracy would be {_percent(found.accuracy_of_all)}"
        )
    if found.unreadable:
        more = f" and {len(found.unreadable) - _NAMED} more" if found.unreadable[_NAMED:] else ""
        lines.append(f"not readable, left out: {', '.join(found.unreadable[:_NAMED])}{more}")
    if found.labelled.left_out:
        names = ", ".join(f"{name} ({n})" for name, n in found.labelled.left_out.items())
        lines.append(f"labels that are not an emotion, left out: {names}")
    if found.lacks:
        lines.append(f"the network lacks {', '.join(found.lacks)}: counted as wrong there")
    return lines


def draw(found: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, rows as shares of the label, and the calibration curve.

    Raises UsageError if the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    s, shown = found.score(), found.shown
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    matrix, curve = figure.subplots(1, 2, width_ratios=(1.25, 1))
    counts = s.confusion[np.ix_(shown, shown)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [EMOTIONS[k] for k in shown]
    sizes = [f"{name} ({n})" for name, n in zip(names, counts.sum(axis=1), strict=True)]
    matrix.set_xticks(range(len(shown)), names, rotation=45, ha="right")
    matrix.set_yticks(range(len(shown)), sizes)
    matrix.set(xlabel="answer", ylabel="label", title=f"{found.model}: {_percent(s.accuracy)}")
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.005:
            colour = "white" if value > 0.5 else "black"
            matrix.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour)
    rows = found.answers.state == FOUND
    sure, right, n = reliability(found.answers.probs[rows], found.labelled.label[rows])
    curve.plot((0, 1), (0, 1), color="0.7", linewidth=1)
    curve.scatter(sure, right, s=20 + 400 * n / n.sum(), alpha=0.7)
    curve.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="confidence",
        ylabel="accuracy",
        title=f"calibration error {_percent(s.calibration_error)}",
    )
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e}") from e
