"""What Prefect costs a show: its start, a segment, the server, and Prefect's database.

python -m benchmarks.overhead [STARTS]

Real runs are started as by the UI, and timed from the request to the first segment request at a
live channel on this machine. Then all requests of a 3-hour show to the server (a task run per
minute, states, progress and report, heartbeats) are sent without pauses, and measured.
"""

import base64
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import psutil

from benchmarks.said_to_prefect import SaidToPrefect, run_a_show
from db.reading.answers import Timeline, Tracks
from emotion.types import EMOTIONS
from flows.control.client.api import FINAL, connect
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.report.picture import BUCKETS, Picture, small_png
from flows.settings import Settings
from flows.stack.stack import Stack

HOURS: Final = 3
SEGMENT_S: Final = 2.0
N_SEGMENTS: Final = int(HOURS * 3600 / SEGMENT_S)
REPORT_EVERY: Final = 15
"""Minutes that share a report here, because rendering it is not a cost of Prefect."""

REPORT_WORDS_BYTES: Final = 3_000
"""Text of a report besides its picture: three tables and links."""

SETTLE_S: Final = 12.0
"""Seconds until the server has written everything."""

IDLE_S: Final = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Seconds from the request of a run until a worker takes it, it begins, and it fetches."""

    taken_s: float
    began_s: float
    fetched_s: float


def start(stack: Stack, api: httpx.Client, origin: LiveOrigin, name: str) -> Start:
    """Start a short show like the UI, and wait for its end."""
    n_before = len(origin.requests)
    asked_at = datetime.now(UTC)
    parameters = {"url": origin.url, "name": name, "duration": "4s"}
    run = stack.server.start_run("watch-show/adhoc", parameters)
    while (now := stack.server.read_run(run.id)).state not in FINAL:
        stack.stopping.wait(0.5)
    if now.state != "COMPLETED":
        raise RuntimeError(f"{now.state_name}: {now.message}")
    states = api.get("/flow_run_states/", params={"flow_run_id": run.id}).raise_for_status().json()
    first = {
        state["type"]: datetime.fromisoformat(state["timestamp"])
        for state in sorted(states, key=lambda state: str(state["timestamp"]), reverse=True)
    }
    asked = (r.at for r in list(origin.requests)[n_before:] if r.path.endswith(".ts"))
    return Start(
        taken_s=(first["PENDING"] - asked_at).total_seconds(),
        began_s=(first["RUNNING"] - asked_at).total_seconds(),
        fetched_s=(min(asked) - asked_at).total_seconds(),
    )


def report(minutes: int) -> str:
    """Return a report after this many minutes of a show with two new faces a minute."""
    rng = np.random.default_rng(minutes)
    begin, second = np.datetime64("2026-11-22T20:00:00", "us"), np.timedelta64(1_000_000, "us")
    n = min(BUCKETS, minutes * 60)
    bucket_s = minutes * 60 / n
    logits = np.zeros((n, 7))
    for i in range(n):
        logits[i] = 0.8 * logits[i - 1] + 0.6 * rng.standard_normal(7)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    n_tracks = 2 * minutes
    first = begin + np.sort(rng.integers(0, minutes * 60, n_tracks)) * second
    picture = Picture(
        title=f"evening-news, 2026-11-22, {n_tracks} tracks, {900 * minutes} faces (UTC)",
        timeline=Timeline(
            start=begin + (np.arange(n) * bucket_s * 1e6).astype("timedelta64[us]"),
            seconds=np.full(n, round(bucket_s)),
            emotions=np.concatenate([shares, np.full((n, 1), np.nan)], axis=1),
        ),
        bucket_s=bucket_s,
        tracks=Tracks(
            broadcast_id=np.ones(n_tracks, dtype=np.int64),
            track=np.arange(1, n_tracks + 1),
            n=np.full(n_tracks, 450),
            first_ts=first,
            last_ts=first + rng.integers(2, 180, n_tracks) * second,
            emotions=np.full((n_tracks, 8), 0.1),
            emotion=np.array(EMOTIONS)[rng.integers(0, 7, n_tracks)],
        ),
        gaps=(),
    )
    return "-" * REPORT_WORDS_BYTES + base64.b64encode(small_png(picture)).decode()


def say_a_show() -> None:
    """Send the requests of a 3-hour show, in a flow run, to the server of the environment."""
    from flows.control import run_page
    from flows.control.healing import BEATS

    took_ms: list[float] = []
    minutes = range(REPORT_EVERY, HOURS * 60 + 1, REPORT_EVERY)
    reports = [report(each) for each in minutes]
    sizes = [len(each) / 1e3 for each in reports]
    print(f"a report: {sizes[0]:.0f} kB in the beginning, {sizes[-1]:.0f} kB in the end")

    def show(to: SaidToPrefect) -> None:
        n_states = round(60 / run_page.EVERY_S)
        n_beats = round(60 / (120 / BEATS))
        for number in range(HOURS * 60):
            before = time.perf_counter()
            to.minute()
            took_ms.append((time.perf_counter() - before) * 1e3)
            for _ in range(n_states):
                to.state(number)
            to.report(reports[number // REPORT_EVERY])
            to.beat(n_beats)

    before = time.process_time()
    run_a_show(reports[0], show)
    cpu_s = time.process_time() - before
    ordered = sorted(took_ms)
    segments_a_minute = 60 / SEGMENT_S
    print(
        f"a minute's task run: median {statistics.median(ordered):.1f} ms, p95 "
        f"{ordered[int(len(ordered) * 0.95)]:.1f} ms: a segment "
        f"{statistics.median(ordered) / segments_a_minute:.2f} ms, p95 "
        f"{ordered[int(len(ordered) * 0.95)] / segments_a_minute:.2f} ms\n"
        f"CPU of the watcher, all it says: {cpu_s / N_SEGMENTS * 1e3:.2f} ms a segment"
    )


def main(starts: int) -> None:
    """Print the figures."""
    with ExitStack() as exits:
        home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="showmood-")))
        home.chmod(0o755)
        programme = make_programme(home / "programme.mp4", duration_s=12)
        origin = exits.enter_context(LiveOrigin(programme, segment_s=SEGMENT_S))
        stack = exits.enter_context(
            Stack(
                Settings(home=home),  # type: ignore[call-arg]
                echo=lambda line: None,
                any_port=True,
                allow=(origin.base_url.removeprefix("http://"),),
            )
        )
        api = exits.enter_context(connect(stack.api_url, stack.access.headers))
        server = _Family.named(stack, "Prefect server")
        worker = _Family.named(stack, " worker")
        took = [start(stack, api, origin, f"start-{number}") for number in range(starts)]
        for what, each in (
            ("a worker has it", [one.taken_s for one in took]),
            ("the flow begins", [one.began_s for one in took]),
            ("the first segment is requested", [one.fetched_s for one in took]),
        ):
            print(
                f"from the trigger until {what}, {starts} starts: median "
                f"{statistics.median(each):.1f} s, {min(each):.1f} to {max(each):.1f} s",
                flush=True,
            )
        time.sleep(SETTLE_S)
        idle_server, idle_worker = _share(IDLE_S, server, worker)
        database = home / "prefect" / "prefect.db"
        before_bytes, before_s = _bytes(database), server.cpu_s()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.overhead", "--say"],
            env=stack.environment(),
            stderr=subprocess.DEVNULL,  # Prefect logs a line per task run
            check=True,
        )
        time.sleep(SETTLE_S)
        cpu_s = server.cpu_s() - before_s - idle_server * SETTLE_S
        share = cpu_s / (HOURS * 3600)
        print(
            f"Prefect's database: {(_bytes(database) - before_bytes) / 1e6:.1f} MB for a "
            f"{HOURS}-hour show\n"
            f"the server: {cpu_s / N_SEGMENTS * 1e3:.1f} ms of CPU for a segment; of a core "
            f"{idle_server:.1%} idle, {idle_server + 8 * share:.1%} with 8 channels\n"
            f"the worker: {idle_worker:.1%} of a core idle",
            flush=True,
        )


class _Family:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        parent = psutil.Process(pid)
        self._all = [parent, *parent.children(recursive=True)]

    @classmethod
    def named(cls, stack: Stack, ends: str) -> "_Family":
        """Return the only one of the stack's processes whose name ends so."""
        (pid,) = (each.process.pid for each in stack.children if each.name.endswith(ends))
        return cls(pid)

    def cpu_s(self) -> float:
        """Return their CPU time so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._all if each.is_running())


def _share(seconds: float, *families: _Family) -> list[float]:
    before = [family.cpu_s() for family in families]
    time.sleep(seconds)
    return [(family.cpu_s() - was) / seconds for family, was in zip(families, before, strict=True)]


def _bytes(database: Path) -> int:
    """Return the size of the used pages, including the write-ahead log."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return sum(
            sign * connection.execute(f"PRAGMA {name}").fetchone()[0]
            for sign, name in ((1, "page_count"), (-1, "freelist_count"))
        ) * int(connection.execute("PRAGMA page_size").fetchone()[0])


if __name__ == "__main__":
    if sys.argv[1:] == ["--say"]:
        say_a_show()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
