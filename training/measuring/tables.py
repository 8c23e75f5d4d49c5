"""The report's tables in Markdown."""

from typing import Final

import numpy as np

from emotion.types import EMOTIONS
from training.learning.rule import GOALS
from training.measuring.measure import Figures
from training.measuring.measure_press import PressFigures
from training.pictures.duplicates import SIMILAR

LOST_AT: Final = ("roll 15°", "roll -15°", "24 px")
MAX_LOST: Final = 0.04
MAX_CALIBRATION_ERROR: Final = 0.04

FEWEST: Final = 10
"""Minimum number of faces of a group for a share to be shown."""

Row = list[str]


def percent(value: float) -> str:
    """Format a share for a table; a dash for NaN."""
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def table(header: Row, rows: list[Row]) -> str:
    """Markdown table."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goals(of: Figures, press: PressFigures) -> str:
    """Table of goals: goal, figure, and whether it is met."""
    lost = max(of.official.accuracy - of.disturbed[name] for name in LOST_AT)
    measured = {
        "official_accuracy": ("FER+, as its authors test it: accuracy", of.official.accuracy),
        "official_recall": ("– mean recall over eight", of.official.mean_recall),
        "press_accuracy": ("press photographs: accuracy", press.in_short["press_accuracy"]),
        "calm_negative": ("– calm faces called negative", press.in_short["calm_negative"]),
        "anger_found": ("– anger found", press.in_short["anger_found"]),
        "keyword_accuracy": ("FER2013's own labels: accuracy", of.keyword.accuracy),
        "clean_accuracy": ("where both labellings agree: accuracy", of.clean.accuracy),
    }
    rows = [
        _goal(*measured[name], goal.wanted, at_most=goal.at_most) for name, goal in GOALS.items()
    ]
    error = of.official.calibration_error
    rows += [
        _goal("FER+: expected calibration error", error, MAX_CALIBRATION_ERROR, at_most=True),
        _goal("accuracy lost at 15° or 24 px, at worst", lost, MAX_LOST, at_most=True),
        _goal(
            "a face at batch 32, share of the detector's frame",
            of.speed.share,
            1 / 3,
            at_most=True,
        ),
    ]
    return table(["Goal", "", "measured", ""], rows)


def _goal(what: str, value: float, wanted: float, *, at_most: bool) -> Row:
    met = value <= wanted if at_most else value >= wanted
    bound = f"{'≤' if at_most else '≥'} {100 * wanted:.0f} %"
    return [what, bound, percent(value), "met" if met else f"**missed by {_by(value, wanted)}**"]


def _by(value: float, wanted: float) -> str:
    return f"{100 * abs(value - wanted):.1f}"


def on_fer(measured: dict[str, Figures], counts: dict[str, int]) -> str:
    """Tables on FER+'s and FER2013's test faces."""
    names, of = list(measured), list(measured.values())
    ours = of[0]
    n = ours.official.n
    summary: list[Row] = [
        [f"FER+ as its authors test it ({n} faces): accuracy"]
        + [percent(f.official.accuracy) for f in of],
        ["– mean recall, classes that occur (8)"] + [percent(f.official.mean_recall) for f in of],
        ["– macro F1"] + [f"{f.official.macro_f1:.3f}" for f in of],
        ["– expected calibration error, 15 bins"]
        + [f"{f.official.calibration_error:.3f}" for f in of],
        [f"– accuracy without near-duplicates ({ours.unseen_official.n})"]
        + [percent(f.unseen_official.accuracy) for f in of],
        ["– mean recall without them"] + [percent(f.unseen_official.mean_recall) for f in of],
        [f"– found and cropped by our detector ({ours.detected.n}): accuracy"]
        + [percent(f.detected.accuracy) for f in of],
        [f"FER+, majority of all votes ({ours.votes.n}, harder faces too): accuracy"]
        + [percent(f.votes.accuracy) for f in of],
        ["– mean recall (8)"] + [percent(f.votes.mean_recall) for f in of],
        [f"FER2013 label ({ours.keyword.n} faces): accuracy"]
        + [percent(f.keyword.accuracy) for f in of],
        ["– mean recall (7)"] + [percent(f.keyword.mean_recall) for f in of],
        ["– accuracy without near-duplicates"] + [percent(f.unseen_keyword.accuracy) for f in of],
        [f"Where both labels agree ({ours.clean.n} faces): accuracy"]
        + [percent(f.clean.accuracy) for f in of],
        ["– mean recall (7)"] + [percent(f.clean.mean_recall) for f in of],
        ["Parameters"] + [f"{f.parameters:,}" for f in of],
        ["ms a face, batch 1"] + [f"{f.speed.batch_1_ms:.2f}" for f in of],
        ["ms a face, batch 32"] + [f"{f.speed.batch_32_ms:.2f}" for f in of],
        ["– share of the detector's time for a frame"] + [f"{f.speed.share:.2f}" for f in of],
    ]
    recall: list[Row] = [
        [emotion] + [percent(score.recall[k]) for f in of for score in (f.official, f.keyword)]
        for k, emotion in enumerate(EMOTIONS)
    ]
    disturbed: list[Row] = [
        [name]
        + [
            f"{percent(f.disturbed[name])} ({100 * (f.disturbed[name] - f.official.accuracy):+.1f})"
            for f in of
        ]
        for name in ours.disturbed
    ]
    heads = [f"{name}, {labels}" for name in names for labels in ("FER+", "FER2013")]
    return "\n\n".join(
        (
            table(["Test faces", *names], summary),
            f"Our detector finds a face in {counts['found_by_detector']} of the {counts['test']} "
            f"test pictures, enlarged four times with a border. {counts['test_near_duplicates']} "
            f"of them have a near-duplicate (correlation at least {SIMILAR}, also mirrored) among "
            "the training or validation pictures. Milliseconds are cropping and network together, "
            f"on two CPU cores; the detector took {ours.speed.detector_ms:.1f} ms for a 640x360 "
            "frame in the same run.",
            "Recall of each emotion:",
            table(["", *heads], recall),
            "FER+ accuracy, as its authors test it, under disturbance; what it costs in points:",
            table(["", *names], disturbed),
        )
    )


PRESS_ROWS: Final = {
    "press_accuracy": "accuracy",
    "press_recall": "mean recall over the classes that occur",
    "calm_negative": "calm faces called sad, angry, disgusted, afraid or contemptuous",
    "calm_angry": "calm faces called angry",
    "anger_found": "angry faces called angry",
}


def on_press(measured: dict[str, PressFigures]) -> str:
    """Tables on press photographs."""
    names, of = list(measured), list(measured.values())
    summary: list[Row] = [
        [what] + [percent(f.in_short[name]) for f in of] for name, what in PRESS_ROWS.items()
    ]
    summary.append(["accuracy on the labelled crops"] + [percent(f.whole.accuracy) for f in of])
    summary.append(
        ["expected calibration error"] + [f"{f.found.calibration_error:.3f}" for f in of]
    )
    summary += [
        [f"recall of {EMOTIONS[k]} ({of[0].found.confusion[k].sum()})"]
        + [percent(f.found.recall[k]) for f in of]
        for k in range(len(EMOTIONS))
        if of[0].found.confusion[k].sum() > 0
    ]
    ours = of[0]

    def group(name: str, found: dict[str, float]) -> Row:
        shown = [percent(found["press_accuracy"]), percent(found["calm_negative"])]
        anger = percent(found["anger_found"]) if found["angry"] >= FEWEST else "–"
        return [name, f"{found['n']:.0f}", *shown, anger]

    groups = [group(name, found) for name, found in ours.groups.items()]
    tracks = [
        group("made tracks: the single frame", ours.single),
        group("– smoothed over two seconds, as rows are", ours.smoothed),
    ]
    columns = ["", "faces", "accuracy", "calm called negative", "anger found"]
    return "\n\n".join(
        (
            table([f"Press photographs ({ours.found.n} faces)", *names], summary),
            f"`{names[0]}` by group:",
            table(columns, groups + tracks),
        )
    )
