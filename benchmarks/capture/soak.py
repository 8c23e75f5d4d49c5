"""Soak test: random faults of a live source, with losses and memory use.

python -m benchmarks.capture.soak [--minutes 30] [--seed 1] [--engines hls,ffmpeg] [--json FILE]

Each engine records its own origin in its own process; both origins have the same faults at the
same times. Then every frame of the show is audited.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

from benchmarks.capture.contenders import Contender, Ours, events_in
from benchmarks.origin.audit import Account, Audit
from benchmarks.origin.kinds import KINDS
from benchmarks.origin.scenarios import SCENARIOS, Scenario
from benchmarks.origin.testcard import make_testcard
from flows.capture.segment import Gap, Segment
from flows.demo.channel import LiveOrigin

SEGMENT_S: Final = 2.0
WINDOW: Final = 30
FPS: Final = 12
_MIN_FACTOR: Final = 0.2
_MAX_FACTOR: Final = 1.5
"""Minimum and maximum length of a fault, relative to the table of faults."""

_QUIET: Final = (1.0, 8.0)
"""Minimum and maximum number of segments between faults."""

_MARGIN: Final = 4
"""Segments published this many before the end must be recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A fault of the plan: start and length."""

    at_s: float
    lasts_s: float
    scenario: Scenario


def make_plan(seed: int, duration_s: float, *, scale: float = 1.0) -> list[Step]:
    """Return the faults of a soak, not overlapping, deterministic by seed.

    The last tenth has no faults, for late recoveries.
    """
    chance = random.Random(seed)
    choices = [scenario for scenario in (*SCENARIOS, *KINDS) if not scenario.final]
    steps: list[Step] = []
    at_s = 4 * SEGMENT_S * scale
    while True:
        scenario = chance.choice(choices)
        lasts_s = scenario.lasts_s * scale * chance.uniform(_MIN_FACTOR, _MAX_FACTOR)
        if at_s + lasts_s > 0.9 * duration_s:
            return steps
        steps.append(Step(at_s=at_s, lasts_s=lasts_s, scenario=scenario))
        at_s += lasts_s + chance.uniform(*_QUIET) * SEGMENT_S * scale


def carry_out(plan: Sequence[Step], origins: Sequence[LiveOrigin], began: float) -> None:
    """Inject the planned faults into all origins."""
    for step in plan:
        _wait_until(began + step.at_s)
        for origin in origins:
            step.scenario.begin(origin)
        _wait_until(began + step.at_s + step.lasts_s)
        for origin in origins:
            step.scenario.end(origin)
            origin.heal()


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def resident_bytes(pid: int) -> dict[str, int]:
    """Return the resident memory of a process, and the sum of its children."""
    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        return {
            "own": process.memory_info().rss,
            "children": sum(child.memory_info().rss for child in children),
        }
    except psutil.Error:
        return {"own": 0, "children": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Soaked:
    """The result of an engine.

    overlaps: events that start before the end of the previous one. holes: that start later without
    a gap in between. memory: seconds since the start, and resident bytes.
    """

    account: Account
    segments: int
    gaps: list[str]
    overlaps: int
    holes: int
    memory: list[dict[str, float]]


def soak(
    contenders: Mapping[str, tuple[Contender, LiveOrigin, Path]],
    plan: Sequence[Step],
    duration_s: float,
    *,
    margin: int = _MARGIN,
    sample_s: float = 10.0,
) -> dict[str, Soaked]:
    """Let each engine record its origin during the planned faults; audit the recordings."""
    origins = [origin for _, origin, _ in contenders.values()]
    memory: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for contender, _, _ in contenders.values():
        contender.start()
    began = time.monotonic()
    wrong = threading.Thread(target=carry_out, args=(plan, origins, began), daemon=True)
    wrong.start()
    try:
        while (passed_s := time.monotonic() - began) < duration_s:
            for name, (contender, _, _) in contenders.items():
                process = getattr(contender, "process", None)
                if process is not None:
                    sample = resident_bytes(process.pid)
                    memory[name].append({"at_s": passed_s, **sample})
            time.sleep(min(sample_s, max(0.0, duration_s - passed_s)))
        ends = {name: origin.published - margin for name, (_, origin, _) in contenders.items()}
    finally:
        for contender, _, _ in contenders.values():
            contender.stop()
        wrong.join()
    found = {}
    for name, (contender, origin, directory) in contenders.items():
        events = events_in(directory)
        found[name] = Soaked(
            account=contender.account(Audit(origin), end=ends[name]),
            segments=sum(isinstance(event, Segment) for event in events),
            gaps=[
                f"{event.start:%H:%M:%S} {(event.end - event.start).total_seconds():.1f} s: "
                f"{event.why}"
                for event in events
                if isinstance(event, Gap)
            ],
            overlaps=sum(after.start < before.end for before, after in pairwise(events)),
            holes=sum(
                after.start - before.end >= timedelta(milliseconds=100)
                for before, after in pairwise(events)
            ),
            memory=memory[name],
        )
    return found


def summary(name: str, soaked: Soaked) -> str:
    """Return a summary of an engine."""
    account = soaked.account
    own = [sample["own"] / 2**20 for sample in soaked.memory if sample["own"]]
    lines = [
        f"{name}: {account.shown_s:.0f} s shown, {account.lost_s:.2f} s lost "
        f"({account.silent_s:.2f} s silently), {account.repeated_s:.2f} s twice, "
        f"{account.gaps_s:.2f} s of gaps; {soaked.segments} segments, {soaked.overlaps} overlaps, "
        f"{soaked.holes} holes; dates off by {account.date_error_s * 1000:.1f} ms at most"
    ]
    if own:
        tenth = max(1, len(own) // 10)
        early, late = own[tenth : 2 * tenth], own[-tenth:]
        lines.append(
            f"  memory: {min(own):.0f} to {max(own):.0f} MiB; "
            f"{sum(early) / max(1, len(early)):.1f} MiB early, {sum(late) / len(late):.1f} MiB late"
        )
    return "\n".join([*lines, *(f"  gap {gap}" for gap in soaked.gaps)])


def main(arguments: list[str]) -> int:
    """Run the soak; return 1 if an engine lost something silently or has duplicates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", default="hls,ffmpeg")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="an empty directory for recordings and logs")
    options = parser.parse_args(arguments)
    duration_s = 60 * options.minutes
    plan = make_plan(options.seed, duration_s)
    work = options.keep or Path(tempfile.mkdtemp(prefix="showmood-soak-"))
    contenders: dict[str, tuple[Contender, LiveOrigin, Path]] = {}
    try:
        show = make_testcard(
            work / "show", duration_s=duration_s + 60, segment_s=SEGMENT_S, fps=FPS
        )
        started_at = datetime.now(UTC) - timedelta(seconds=4 * SEGMENT_S)
        for name in options.engines.split(","):
            origin = LiveOrigin(
                show[""],
                variants={key: path for key, path in show.items() if key},
                window=WINDOW,
                loop=False,
                started_at=started_at,
            ).start()
            directory = work / name
            directory.mkdir()
            contenders[name] = (
                Ours(name, origin, directory, work / f"{name}.log"),
                origin,
                directory,
            )
        print(f"{len(plan)} faults in {duration_s:.0f} s, seed {options.seed}", flush=True)
        found = soak(contenders, plan, duration_s)
    finally:
        for _, origin, _ in contenders.values():
            origin.close()
        if not options.keep:
            shutil.rmtree(work)
    for name, soaked in found.items():
        print(summary(name, soaked))
    if options.json:
        saved = {name: asdict(soaked) for name, soaked in found.items()}
        options.json.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    return int(any(s.account.silent_s > 0.1 or s.overlaps or s.holes for s in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
