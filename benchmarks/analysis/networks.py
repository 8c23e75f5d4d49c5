"""Milliseconds per frame or face of each network on this machine, for docs/models.md.

`python -m benchmarks.analysis.networks [CARD.onnx ...]`: the networks with installed weights,
ResNet50 with random ones if necessary (same cost), and ONNX files with their cards.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from emotion.classify import Classifier
from emotion.detection.detect import Detector
from emotion.errors import WeightsMissing
from emotion.networks.retinaface import RetinaFace
from emotion.types import Faces, Frames
from emotion.weights import store as weights

N_FRAMES = 10
N_FACES = 10
ROUNDS = 7
SIZES = ((640, 360), (960, 540))


def spent(run: Callable[[], object]) -> tuple[float, float]:
    """Return milliseconds of some runs, after a warm-up.

    The minimum of wall time, and the median of CPU time, which depends little on other load.
    """
    run()
    clock, processors = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - begin[0])
        processors.append(time.process_time() - begin[1])
    return min(clock) * 1000, statistics.median(processors) * 1000


def pictures(width: int, height: int) -> Frames:
    """Return frames with one face of a third of the height, on noise."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        portrait = np.asarray(image.convert("RGB").resize((height * 5 // 6, height)))
    images = np.random.default_rng(0).integers(0, 256, (N_FRAMES, height, width, 3), dtype=np.uint8)
    images[:, :, : portrait.shape[1]] = portrait
    return Frames(
        images=images,
        offset_s=np.arange(N_FRAMES) / 5,
        source_width_px=width,
        source_height_px=height,
    )


def detector(name: str, device: str) -> Detector:
    """Return the detector, with random weights if its own are not installed."""
    model = weights.detector_model(name)
    try:
        return Detector(weights.load(model), model=model, device=device)
    except WeightsMissing:
        tensors = RetinaFace(model.backbone).state_dict()
        return Detector(tensors, model=model, device=device, min_score=0.99)


def main() -> None:
    """Print one JSON object a network."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("onnx", nargs="*", type=Path)
    arguments.add_argument("--device", default="auto")
    asked = arguments.parse_args()
    for name, model in weights.MODELS.items():
        if isinstance(model, weights.DetectorModel):
            found = detector(name, asked.device)
            for width, height in SIZES:
                frames = pictures(width, height)
                times = spent(lambda found=found, frames=frames: found.detect(frames))
                say(name, found.device, f"frame of {width}x{height}", times, N_FRAMES)
    frames = pictures(*SIZES[0])
    faces = detector(weights.DEFAULT_DETECTOR, asked.device).detect(frames)
    emotions = [m for m in weights.MODELS.values() if isinstance(m, weights.EmotionModel)]
    for model in (*emotions, *(weights.emotion_model(str(path)) for path in asked.onnx)):
        try:
            net = Classifier.of(model, device=asked.device)
        except WeightsMissing:
            continue
        for n in (1, N_FACES):
            some = Faces(
                frame=faces.frame[:n],
                boxes=faces.boxes[:n],
                scores=faces.scores[:n],
                landmarks=faces.landmarks[:n],
            )
            times = spent(lambda net=net, some=some: net.classify(frames, some))
            say(model.name, net.device, f"face, {n} at once", times, n)


def say(name: str, device: torch.device, what: str, times: tuple[float, float], n: int) -> None:
    """Print one result."""
    said = {"network": name, "device": str(device), "threads": torch.get_num_threads(), "of": what}
    figures = {"ms": round(times[0] / n, 2), "cpu_ms": round(times[1] / n, 2)}
    print(json.dumps(said | figures), flush=True)


if __name__ == "__main__":
    main()
