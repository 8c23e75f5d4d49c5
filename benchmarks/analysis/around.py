"""Detection around known faces compared with detection in whole frames: faces, boxes, CPU time.

python -m benchmarks.analysis.around --media DIR [KIND ...]

For each kind of programme (`kinds`): the share of faces found; false boxes; the offset of boxes
relative to their side; equal emotions; frames searched whole; and the ratio of a segment's CPU time
to that of its decoding.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.analysis import kinds
from benchmarks.analysis.turns import DEFAULT_PX
from emotion.detection import boxes
from emotion.media.segment import read_parts
from emotion.pipeline import Analyser
from emotion.types import Detections, Frames

_SAME = 0.5


class Compared:
    """Sums over a kind's segments."""

    def __init__(self) -> None:
        """Start with zeros."""
        self.n_faces = self.n_found = self.n_false = self.n_same = 0
        self.off: list[float] = []

    def add(self, whole: Detections, around: Detections) -> None:
        """Compare two results for a segment."""
        for i in range(len(whole.offset_s)):
            a, b = (np.flatnonzero(d.faces.frame == i) for d in (whole, around))
            self.n_faces += len(a)
            overlap = boxes.iou_of(whole.faces.boxes[a], around.faces.boxes[b])
            self.n_false += int((overlap.max(axis=0, initial=0) < _SAME).sum())
            found = overlap.max(axis=1, initial=0) >= _SAME
            if not found.any():
                continue
            ours, theirs = a[found], b[overlap[found].argmax(axis=1)]
            self.n_found += len(ours)
            one, other = whole.faces.boxes[ours], around.faces.boxes[theirs]
            side = (one[:, 2:] - one[:, :2]).max(axis=1)
            self.off += (np.abs(one - other).max(axis=1) / side).tolist()
            same = whole.probs[ours].argmax(axis=1) == around.probs[theirs].argmax(axis=1)
            self.n_same += int(same.sum())


def measure(media: Path, names: Sequence[str], say: Callable[[str], None], length_s: float) -> None:
    """Say a line of each kind of programme. media: as `kinds` takes it."""
    everywhere = Analyser(device="cpu", everywhere=True)
    around = Analyser(device="cpu")
    looks: list[None] = []
    _count(around._detector, looks)
    of = kinds.cast(media, everywhere._detector)
    say("kind     faces  found  false  box off, median, p95  emotion  whole  times decoding")
    with tempfile.TemporaryDirectory() as name:
        for kind in names:
            compared, taken, n_frames = Compared(), np.zeros(3), 0
            pieces = kinds.clip(kind, of, Path(name) / kind, length_s=length_s)
            everywhere.analyse_file(pieces[0])
            around.analyse_file(pieces[0])
            looks.clear()
            for piece in pieces:
                began = [time.process_time()]
                parts: list[Frames] = list(
                    read_parts(piece, fps=5.0, longest_side_px=DEFAULT_PX, part_px=1)
                )
                began.append(time.process_time())
                whole = everywhere.analyse_parts(parts)
                began.append(time.process_time())
                compared.add(whole, around.analyse_parts(parts))
                began.append(time.process_time())
                taken += np.diff(began)
                n_frames += len(whole.offset_s)
            n, (decoding, old, new) = compared, taken
            off = np.quantile(n.off or [0.0], (0.5, 0.95))
            say(
                f"{kind:7}{n.n_faces:7}{n.n_found / max(1, n.n_faces):7.1%}{n.n_false:6}"
                f"{off[0]:15.3f}{off[1]:7.3f}{n.n_same / max(1, n.n_found):9.1%}"
                f"{len(looks):5}/{n_frames}"
                f"{1 + old / decoding:8.2f} ->{1 + new / decoding:5.2f}"
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=kinds.KINDS)
    parser.add_argument("--media", type=Path, required=True)
    arguments = parser.parse_args()
    measure(arguments.media, arguments.kinds, partial(print, flush=True), kinds.LENGTH_S)


def _count(detector: Any, looks: list[None]) -> None:  # noqa: ANN401
    """Count the frames that are searched whole."""
    detect = detector.detect

    def counted(*arguments: object) -> object:
        looks.append(None)
        return detect(*arguments)

    detector.detect = counted


if __name__ == "__main__":
    main()
