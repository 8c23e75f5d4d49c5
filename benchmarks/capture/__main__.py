"""Latency from the publication of a segment to its file and its rows: both engines, and others.

python -m db.embedded.throwaway python -m benchmarks.capture [SECONDS] [NAME ...] [STREAMLINK]

NAME: hls-held, hls, ffmpeg or plain; all by default. STREAMLINK: path of a streamlink to compare
with. A live channel on this
machine lists a segment of 2 s as soon as its last frame has passed, so a segment's end
date is its time of publication.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.capture.live_stream import live_stream
from db.session import make_engine, upgrade
from db.writing import writes
from emotion.pipeline import Linker
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.net.address import LOOPBACK, AddressPolicy
from flows.capture.processes import find_ffmpeg
from flows.capture.segment import Segment
from flows.capture.supervisor.capture import Capture
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.live.rows.analysis import Analysis, networks
from flows.live.rows.store import Store
from flows.settings import load_settings

HELD: Final = "hls-held"
"""The HLS engine with a source that supports blocking playlist reload."""

_PLAIN: Final = "plain"
_NAMES: Final = (HELD, "hls", "ffmpeg", _PLAIN)

_FIRST: Final = 2
"""Number of first segments to ignore, which were published before the start."""


def measure_engine(
    engine: str, origin: LiveOrigin, url: str, directory: Path, run_s: float, *, name: str = ""
) -> str:
    """Watch for this time; return a row of the table."""
    name = name or engine
    settings = load_settings()
    database = make_engine(url)
    now = datetime.now(UTC)
    with database.begin() as connection:
        channel = writes.ensure_channel(connection, name, origin.url)
        broadcast = writes.open_broadcast(
            connection,
            channel_id=channel,
            started_at=now,
            planned_end=now,
            source_id="live",
            title="live",
            flow_run_id=None,
        )
    analyser = networks(DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, "cpu", settings.cache_dir, 640)
    analysis = Analysis(
        analyser=analyser,
        linker=Linker(None),
        store=Store(
            engine=database, channel_id=channel, broadcast_id=broadcast, model=analyser.model
        ),
        fps=5.0,
        log=logging.getLogger("benchmark"),
    )
    stream = live_stream(origin.url, origin.url)
    files, rows = [], []
    with Capture(
        origin.url,
        directory=directory,
        channel=name,
        broadcast=broadcast,
        policy=AddressPolicy(allow_networks=LOOPBACK),
        stream=stream,
        duration_s=run_s,
        engine="hls" if engine == "hls" else "ffmpeg",
    ) as capture:
        for event in capture:
            analysis.take(event)
            if isinstance(event, Segment):
                published = event.end.timestamp()
                files.append(event.path.stat().st_mtime - published)
                rows.append(time.time() - published)
    database.dispose()
    return row_of(name, files, rows)


def measure_streamlink(program: str, origin: LiveOrigin, directory: Path, run_s: float) -> str:
    """Run streamlink; measure when each complete segment is in its file."""
    target = directory / "streamlink.ts"
    command = [program, "-l", "none", "-o", str(target), f"hls://{origin.url}", "best"]
    grown: list[tuple[float, int]] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        end = time.monotonic() + run_s
        while time.monotonic() < end:
            size = target.stat().st_size if target.exists() else 0
            if size and (not grown or grown[-1][1] != size):
                grown.append((time.time(), size))
            time.sleep(0.01)
        process.terminate()
    data = target.read_bytes()
    pieces = [origin.bytes_of(n) for n in range(origin.n_pieces)]
    at = 0
    lags = []
    while at < len(data):
        found = next((n for n, p in enumerate(pieces) if data.startswith(p, at)), None)
        if found is None:
            break
        at += len(pieces[found])
        when = next((t for t, size in grown if size >= at), None)
        if when is None:
            break  # written at its end, after the last poll
        # The last time that this part of the loop was on air before it arrived.
        index = max(
            k
            for k in range(found, found + 100 * len(pieces), len(pieces))
            if origin.start_of(k + 1).timestamp() <= when
        )
        lags.append(when - origin.start_of(index + 1).timestamp())
    return row_of("streamlink", lags, [])


def measure_plain(origin: LiveOrigin, directory: Path, run_s: float) -> str:
    """Run plain ffmpeg, which cuts the stream into files."""
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-i", origin.url, "-c", "copy"]
    command += ["-f", "hls", "-hls_time", "1.8", "-hls_list_size", "0"]
    started = time.time()
    with subprocess.Popen([*command, str(directory / "plain.m3u8")]) as process:
        time.sleep(run_s)
        listed = (directory / "plain.m3u8").read_text().count("#EXTINF")
        process.terminate()
    paths = sorted(directory.glob("plain*.ts"), key=lambda p: p.stat().st_mtime)[:listed]
    # Its files have no dates: they begin with the third segment from the
    # end of the first playlist that it read.
    first = int((started - origin.started_at.timestamp()) / origin.segment_s) - 3
    lags = [
        path.stat().st_mtime - origin.start_of(first + n + 1).timestamp()
        for n, path in enumerate(paths)
    ]
    return row_of("ffmpeg -c copy", lags[3:], [])


def row_of(name: str, files: list[float], rows: list[float]) -> str:
    """Return a line: segments, then median and p95 of each lag, in ms."""
    said = [f"{name:16}{max(0, len(files) - _FIRST):4} segments"]
    for what, lags in (("file", files), ("rows", rows)):
        if len(lags) > _FIRST:
            median, p95 = np.percentile(lags[_FIRST:], [50, 95]) * 1000
            said.append(f"publish to {what}: median {median:5.0f} ms, p95 {p95:5.0f} ms")
    return "   ".join(said)


def main(arguments: list[str]) -> int:
    """Measure each and print the table."""
    run_s = float(arguments[0]) if arguments else 60.0
    names = [each for each in arguments[1:] if each in _NAMES] or _NAMES
    programs = [each for each in arguments[1:] if each not in _NAMES]
    url = os.environ["SHOWMOOD_DATABASE_URL"]
    upgrade(url)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        programme = make_programme(work / "programme.mp4")
        if HELD in names:
            with LiveOrigin(programme, holds=True) as origin:
                print(measure_engine("hls", origin, url, work / HELD, run_s, name=HELD), flush=True)
        with LiveOrigin(programme) as origin:
            for engine in ("hls", "ffmpeg"):
                if engine in names:
                    print(measure_engine(engine, origin, url, work / engine, run_s), flush=True)
            if _PLAIN in names:
                print(measure_plain(origin, work, run_s), flush=True)
            for program in programs:
                print(measure_streamlink(program, origin, work, run_s), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
