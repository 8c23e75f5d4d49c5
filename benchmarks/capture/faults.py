"""Seconds lost and seconds to recover for each fault of a live source: our engines and others.

python -m benchmarks.capture.faults [--scale 0.25] [--only PART_OF_A_NAME] [--json FILE] [--jobs 8]

Prints a markdown table. At full length a segment is 2 s; --scale 0.25 makes it half a second and
the faults a quarter as long (but not the timeouts of the other programs). Losses are
counted frame by frame, because all frames of the show are unique. The full disk is a tmpfs, which
needs root.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.capture.contenders import Contender, Ours, PlainFfmpeg, Streamlink
from benchmarks.capture.trial import NothingRecorded, Outcome, run_trial
from benchmarks.origin.kinds import KINDS
from benchmarks.origin.scenarios import SCENARIOS, Scenario
from benchmarks.origin.testcard import make_testcard
from flows.demo.channel import LiveOrigin

SEGMENT_S: Final = 2.0
WINDOW: Final = 30
"""Number of listed segments: a minute of them at full length."""

SHOW_S: Final = 160.0
WAIT_S: Final = 24.0

NAMES: Final = ("hls", "ffmpeg", "ffmpeg -c copy", "streamlink")
KILLED: Final = "recorder killed"
DISK_FULL: Final = "disk full"
_DISK_BYTES: Final = 8 << 20


def make_contender(name: str, origin: LiveOrigin, directory: Path, log: Path) -> Contender:
    """Return one of NAMES, to record to the directory."""
    if name == "ffmpeg -c copy":
        return PlainFfmpeg(origin, directory, log)
    if name == "streamlink":
        return Streamlink(origin, directory, log)
    return Ours(name, origin, directory, log)


def _nothing(_: LiveOrigin) -> None:
    pass


EVERY: Final = (
    *SCENARIOS,
    Scenario(name=KILLED, begin=_nothing, lasts_s=5),
    Scenario(name=DISK_FULL, begin=_nothing, lasts_s=10),
)


def fill(directory: Path) -> None:
    """Fill the directory's disk completely."""
    with (directory / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)) == 4096:
                pass
        except OSError:
            return


def bound(scenario: Scenario, contender: Contender, directory: Path) -> Scenario:
    """Return the scenario with its effect on the recorder or its disk."""
    if scenario.name == KILLED:
        return replace(scenario, begin=lambda _: contender.kill(), end=lambda _: contender.start())
    if scenario.name == DISK_FULL:
        return replace(
            scenario,
            begin=lambda _: fill(directory),
            end=lambda _: (directory / "filler").unlink(missing_ok=True),
        )
    return scenario


def try_one(
    scenario: Scenario, name: str, show: dict[str, Path], work: Path, scale: float
) -> Outcome | None:
    """Run one contender with one fault; None if it is not possible on this machine."""
    directory = work / f"{scenario.name} {name}".replace(" ", "-")
    directory.mkdir()
    mounted = scenario.name == DISK_FULL
    if mounted:
        options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none"]
        if subprocess.run(["mount", *options, str(directory)], check=False).returncode:
            return None
    variants = {key: path for key, path in show.items() if key}
    started_at = datetime.now(UTC) - timedelta(seconds=4 * SEGMENT_S * scale)
    try:
        with LiveOrigin(
            show[""], variants=variants, window=WINDOW, loop=False, started_at=started_at
        ) as origin:
            contender = make_contender(name, origin, directory, work / f"{directory.name}.log")
            return run_trial(
                contender,
                origin,
                bound(scenario, contender, directory),
                scale=scale,
                wait_s=WAIT_S * max(scale, 0.5),
            )
    except NothingRecorded:
        return None
    finally:
        if mounted:
            subprocess.run(["umount", str(directory)], check=False)


def summary(outcome: Outcome | None, scenario: Scenario) -> str:
    """Return a cell: seconds lost (of which silently) and seconds to recover."""
    if outcome is None:
        return "not measured"
    account = outcome.account
    text = f"{account.lost_s:.1f}"
    if account.silent_s > 0.05:
        text += f" ({account.silent_s:.1f} silently)"
    if account.repeated_s > 0.05:
        text += f", {account.repeated_s:.1f} twice"
    if scenario.final:
        return f"{text} / ended" if outcome.over else f"{text} / goes on"
    if outcome.recovered_s is None:
        return f"{text} / {'ended' if outcome.over else 'never'}"
    return f"{text} / {outcome.recovered_s:.1f}"


def main(arguments: list[str]) -> int:
    """Run each contender with each fault; return 1 if one of ours lost something silently."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture.faults")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--table", default="all", choices=["faults", "kinds", "all"])
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--contenders", default=",".join(NAMES), help="separated by commas")
    parser.add_argument("--jobs", type=int, default=8, help="trials at the same time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="an empty directory for recordings and logs")
    options = parser.parse_args(arguments)
    scale = options.scale
    names = [name for name in NAMES if name in options.contenders.split(",")]
    given = {"faults": EVERY, "kinds": KINDS, "all": (*EVERY, *KINDS)}[options.table]
    scenarios = [scenario for scenario in given if options.only in scenario.name]
    work = options.keep or Path(tempfile.mkdtemp(prefix="showmood-faults-"))
    try:
        show = make_testcard(work / "show", duration_s=SHOW_S, segment_s=SEGMENT_S * scale)
        with ThreadPoolExecutor(options.jobs) as pool:
            trials = {
                (scenario.name, name): pool.submit(try_one, scenario, name, show, work, scale)
                for scenario in scenarios
                for name in names
            }
        outcomes = {key: trial.result() for key, trial in trials.items()}
    finally:
        if not options.keep:
            shutil.rmtree(work)
    print(f"| fault | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for scenario in scenarios:
        length = "" if scenario.final else f", {scenario.lasts_s * scale:g} s"
        cells = [summary(outcomes[scenario.name, name], scenario) for name in names]
        print(f"| {scenario.name}{length} | {' | '.join(cells)} |")
    if options.json:
        lines = [
            {
                "fault": key[0],
                "contender": key[1],
                "scale": scale,
                **(asdict(outcome) if outcome else {}),
            }
            for key, outcome in outcomes.items()
        ]
        options.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    ours = [o for (_, name), o in outcomes.items() if o and name in ("hls", "ffmpeg")]
    return int(any(outcome.account.silent_s > 0.05 for outcome in ours))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
