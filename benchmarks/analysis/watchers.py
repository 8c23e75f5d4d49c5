"""The memory of several watchers, each a process of its own that imports what a flow run does.

A process that is forked would share its parent's pages; runs of a worker do not, so neither do
these. What they share are the libraries' files: PSS counts a page by its share of those who map it.
"""

import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.analysis import channels
from benchmarks.analysis.turns import Bench, database

_FIELDS: Final = {"Pss": "its own (PSS)", "Rss": "resident"}


def measure(bench: Bench) -> None:
    """Say what each of eight watchers holds after five segments and a report, all at once."""
    n_watchers, n_segments = (2, 2) if bench.short else (8, 5)
    channels.forget(database())
    command = [sys.executable, "-m", "benchmarks.analysis.watchers", database()]
    held: list[dict[str, int]] = []
    with ExitStack() as exits:
        watchers = []
        for number in range(n_watchers):
            work = bench.work / f"memory-{number}"
            arguments = [str(work), str(number), str(n_segments), *map(str, bench.pieces)]
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            exits.callback(process.wait)
            exits.callback(process.kill)
            watchers.append(process)
        for process in watchers:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a watcher has ended by itself")
        for process in watchers:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            held.append({key: int(kib) for key, kib in re.findall(r"(\w+): +(\d+) kB", text)})
    for key, what in _FIELDS.items():
        megabytes = [each[key] / 1024 for each in held]
        goal = "<= 350" * (key == "Pss")
        said = f"each of {n_watchers} watchers, {what}"
        bench.say("memory", f"{said}, median", np.median(megabytes), "MB", goal)
    bench.say("memory", f"{said}, most", max(megabytes), "MB")


def _watch(url: str, work: Path, number: int, n_segments: int, pieces: list[Path]) -> None:
    import flows.watch  # noqa: F401 - what a flow run loads
    from db.session import make_engine
    from flows.report.text import markdown

    channels.watch(url, number, pieces, work, n_segments, time.time)
    engine = make_engine(url)
    with engine.connect() as connection:
        markdown(connection, f"channel-{number}", channels.start_of(number), status="live")
    engine.dispose()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _watch(
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        [*map(Path, sys.argv[5:])],
    )
