"""Benchmark of the whole path on a GPU: correctness, speed and bottlenecks.

python -m db.embedded.throwaway python -m benchmarks.analysis.gpu [--json FILE] [--short]

Made for short access to a GPU: it fetches nothing, prints each figure immediately,
and starts with the most important ones. It takes about five minutes. Without a CUDA device it
prints a line and runs a short form on the CPU, as a test of the script.

The clip is that of `benchmarks.analysis`: 720p30, three faces, analysed 5 times a second.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.analysis import channels
from benchmarks.analysis.around import Compared
from benchmarks.analysis.turns import DEFAULT_PX, Bench, database
from db.session import upgrade
from emotion.align import crops
from emotion.detection import boxes
from emotion.device import bring
from emotion.media.streams import cores
from emotion.media.video import read_frames
from emotion.pipeline import Analyser
from emotion.types import Frames

CHANNELS: Final = (1, 8, 16, 32, 48, 64)
MAX_LAG_S: Final = 2.0
MIN_FREE: Final = 0.08  # of the device's memory: with less free no more channels are added
_SAMPLE_S: Final = 0.2


def measure_answers(bench: Bench, device: str) -> None:
    """Compare the results of the device with those of the CPU, every frame searched whole."""
    cpu, other = Analyser(device="cpu", everywhere=True), Analyser(device=device, everywhere=True)
    compared = Compared()
    for piece in bench.pieces[:2]:
        frames = read_frames(piece, fps=5.0, longest_side_px=DEFAULT_PX)
        compared.add(cpu.analyse(frames), other.analyse(frames))
    n = max(1, compared.n_faces)
    bench.say(
        "answers", "faces of the CPU's that are found", 100 * compared.n_found / n, "%", ">= 99"
    )
    bench.say("answers", "faces that the CPU does not find", compared.n_false, "")
    bench.say("answers", "largest difference of a box, of its side", 100 * max(compared.off), "%")
    same = 100 * compared.n_same / max(1, compared.n_found)
    bench.say("answers", "same emotion", same, "%", ">= 98")


def measure_rates(bench: Bench, device: str, *, short: bool) -> None:
    """Frames a second: only the device, only decoding, and end to end."""
    analyser = Analyser(device=device)
    frames = read_frames(bench.pieces[0], fps=5.0, longest_side_px=DEFAULT_PX)
    n_segments = 1 if short else 6
    many = _repeated(frames, n_segments)
    pieces = bench.pieces * (1 if short else 8)
    n_frames = 10 * len(pieces)
    alone_s = _median_s(lambda: analyser.analyse(many), device, 1 if short else 5)
    alone = len(many) / alone_s
    bench.say("rates", f"the device alone, {len(many)} frames at once", alone, "frames/s")
    segment_s = _median_s(lambda: analyser.analyse(frames), device, 1 if short else 9)
    bench.say("rates", "a segment of 10 frames that is decoded", 1000 * segment_s, "ms", "< 40")

    def decode(piece: Path) -> None:
        with analyser.decode(piece) as parts:
            for _ in parts:
                pass

    decoding = n_frames / _seconds(lambda: [decode(piece) for piece in pieces], device)
    bench.say("rates", "decoding alone, one file after the other", decoding, "frames/s")
    one = n_frames / _seconds(lambda: [analyser.analyse_file(piece) for piece in pieces], device)
    bench.say("rates", "end to end, one file after the other", one, "frames/s")
    with ThreadPoolExecutor(cores()) as threads:
        wide = n_frames / _seconds(lambda: [*threads.map(decode, pieces)], device)
        bench.say("rates", f"decoding alone, {cores()} files at once", wide, "frames/s")
        all_of_it = n_frames / _seconds(
            lambda: [*threads.map(analyser.analyse_file, pieces)], device
        )
    goal = ">= 2000 (H100)" if device != "cpu" else ""
    bench.say("rates", f"end to end, {cores()} files at once", all_of_it, "frames/s", goal)
    bound = "decoding, on the CPU's cores" if wide < alone else "the device's part"
    print(f"rates     what bounds it: {bound} ({wide:.0f} frames/s decoded, {alone:.0f} analysed)")


def measure_parts(bench: Bench, device: str, *, short: bool) -> None:
    """Measure the steps of a segment on the device, and the network by batch size."""
    analyser = Analyser(device=device)
    detector, classifier = analyser._detector, analyser._classifier
    frames = read_frames(bench.pieces[0], fps=5.0, longest_side_px=DEFAULT_PX)
    faces = detector.detect(frames)
    n = 1 if short else 9
    with torch.inference_mode():
        pictures = bring(frames.images, detector.device)
        found = detector.candidates(detector.centred(pictures))
        seen = _crops(frames, faces, analyser, list(pictures.unbind()))
        parts: dict[str, Callable[[], object]] = {
            "pictures to the device": lambda: bring(frames.images, detector.device),
            "the detector's network": lambda: detector.candidates(detector.centred(pictures)),
            "suppression": lambda: boxes.suppress(
                found[2], found[1], max_iou=detector.max_iou, frame=found[0]
            ),
            f"{len(faces)} crops": lambda: _crops(frames, faces, analyser, list(pictures.unbind())),
            f"the emotion network, {len(faces)} faces": lambda: classifier.probabilities(seen),
        }
        for name, run in parts.items():
            bench.say("parts", f"{name}, a segment", 1000 * _median_s(run, device, n), "ms")
        for n_frames in (1, 10) if short else (1, 10, 40):
            batch = pictures[:1].expand(n_frames, -1, -1, -1).contiguous()
            taken_s = _median_s(lambda b=batch: detector.candidates(detector.centred(b)), device, n)
            rate = n_frames / taken_s
            bench.say(
                "parts", f"the detector's network, {n_frames} frames at once", rate, "frames/s"
            )


def measure_channels(bench: Bench, device: str, *, short: bool) -> None:
    """Number of channels at 5 frames a second, in separate processes."""
    best = 0
    for n_channels in (1,) if short else CHANNELS:
        with _least_free(device) as free:
            taken = channels.watch_together(
                database(),
                bench.pieces,
                bench.work / "live",
                n_channels=n_channels,
                n_segments=4 if short else 8,
            )
        counted = [one for each in taken for one in each[channels.UNCOUNTED :]]
        lags_ms = [1000 * one.lag_s for one in counted]
        p50, p95 = np.percentile(lags_ms, (50, 95))
        bench.say("channels", f"lag of {n_channels} channels, median", p50, "ms")
        bench.say("channels", f"lag of {n_channels} channels, p95", p95, "ms", "< 2000")
        if free:
            bench.say("channels", f"memory left with {n_channels}", 100 * min(free), "% of device")
        if p95 >= 1000 * MAX_LAG_S or not all(one.frames == 10 for one in counted):
            break
        best = n_channels
        if free and min(free) < MIN_FREE:
            print("channels  the device's memory is what ends it: a context for each process")
            break
    bench.say("channels", "channels of 720p30 in real time, 3 faces each", best, "channels")


def measure_memory(bench: Bench, device: str) -> None:
    """Memory of one process on the device."""
    if device == "cpu":
        return
    megabytes = torch.cuda.max_memory_allocated() / 2**20
    bench.say("memory", "tensors of one process, at most", megabytes, "MB")
    bench.say("memory", "held by torch", torch.cuda.max_memory_reserved() / 2**20, "MB")


def _crops(
    frames: Frames, faces: object, analyser: Analyser, pictures: list[torch.Tensor]
) -> torch.Tensor:
    model = analyser._classifier.model
    return crops(
        frames,
        faces,  # type: ignore[arg-type]
        model.crop,
        size_px=model.input_px,
        gray=model.colour == "gray",
        device=analyser._detector.device,
        pictures=pictures,
    )


def _repeated(frames: Frames, times: int) -> Frames:
    step_s = 2.0
    offsets = [frames.offset_s + step_s * i for i in range(times)]
    return Frames(
        images=np.concatenate([frames.images] * times),
        offset_s=np.concatenate(offsets),
        source_width_px=frames.source_width_px,
        source_height_px=frames.source_height_px,
    )


def _seconds(run: Callable[[], object], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _median_s(run: Callable[[], object], device: str, rounds: int) -> float:
    run()
    return float(np.median([_seconds(run, device) for _ in range(rounds)]))


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@contextmanager
def _least_free(device: str) -> Iterator[list[float]]:
    """Yield a list of samples of the share of free device memory."""
    free: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            left, total = torch.cuda.mem_get_info()
            free.append(left / total)

    if device == "cpu":
        yield free
        return
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield free
    finally:
        over.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--short", action="store_true", help="little of everything")
    given = parser.parse_args(arguments)
    device, short = "cuda", given.short
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        print(
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GB, "
            f"torch {torch.__version__}, CUDA {torch.version.cuda}, {cores()} cores"
        )
    else:
        device, short = "cpu", True
        print(
            f"no CUDA device here (torch {torch.__version__}): a little of the same is measured "
            "on the CPU, to show that this runs; no figure of it is a GPU's"
        )
    upgrade(database())
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), rounds=1)
        measure_answers(bench, device)
        measure_rates(bench, device, short=short)
        measure_parts(bench, device, short=short)
        measure_channels(bench, device, short=short)
        measure_memory(bench, device)
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps([asdict(f) for f in bench.figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
