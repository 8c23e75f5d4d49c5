"""CPU time and memory of a watcher that only captures, for both engines.

python -m benchmarks.capture.watcher [SECONDS]

A live channel on this machine, 2 s segments; a process for each engine, including its
descendants. The networks are not loaded, so analysis is not included.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from benchmarks.capture.live_stream import live_stream
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.segment import Segment
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme

_FIRST: Final = 3
"""Number of segments before the measurement starts."""


def watch_alone(engine: str, url: str, directory: Path, run_s: float) -> str:
    """Only capture for this time; return a row of the table."""
    with Capture(
        url,
        directory=directory,
        channel=engine,
        broadcast=1,
        policy=AddressPolicy(allow_networks=LOOPBACK),
        stream=live_stream(url, url),
        engine="hls" if engine == "hls" else "ffmpeg",
    ) as capture:
        for _ in range(_FIRST):
            capture.get(60.0)
        began, first = time.monotonic(), measure()
        n_segments, n_bytes = 0, 0
        while time.monotonic() - began < run_s:
            event = capture.get(1.0)
            if isinstance(event, Segment):
                n_segments += 1
                n_bytes += event.path.stat().st_size
        passed_s, last = time.monotonic() - began, measure()
    return (
        f"{engine:8}{n_segments:4} segments, {8e-6 * n_bytes / passed_s:.1f} Mbit/s: "
        f"{1000 * (last[0] - first[0]) / passed_s:5.1f} ms of processor time a second, "
        f"{last[1]:.0f} MB ({last[1] - first[1]:+.1f} MB in {passed_s:.0f} s)"
    )


def measure() -> tuple[float, float]:
    """Return the CPU time (s) and memory (MB) of this process and its descendants."""
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    times = [each.cpu_times() for each in family]
    memory = sum(each.memory_full_info().uss for each in family)
    return sum(each.user + each.system for each in times), memory / 1e6


def main(arguments: list[str]) -> int:
    """Measure both engines, each in its own process."""
    if len(arguments) == 4:
        engine, url, directory, seconds = arguments
        print(watch_alone(engine, url, Path(directory), float(seconds)), flush=True)
        return 0
    seconds = arguments[0] if arguments else "60"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with LiveOrigin(make_programme(work / "programme.mp4")) as origin:
            for engine in ("hls", "ffmpeg"):
                command = [sys.executable, "-m", "benchmarks.capture.watcher"]
                command += [engine, origin.url, str(work / engine), seconds]
                subprocess.run(command, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
