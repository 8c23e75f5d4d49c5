"""Channels on air without video: their rows at their real rate, by the production code.

Each channel has an engine, a lock on its own connection and a store, like a watcher. Every
two seconds it stores a segment of ten looks with some three faces, its lag, and checks its lock.
"""

import heapq
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.history.made_shows import make_show, pieces
from db.channel_lock import ChannelLock
from db.session import make_engine
from db.writing.rows import ObservationRows
from db.writing.writes import ensure_channel, ensure_partition, open_broadcast
from emotion.types import Observations
from flows.capture.segment import Segment
from flows.live.rows.store import Store

SEGMENT_S: Final = 2.0
LOOKS: Final = 10
MADE: Final = 30
"""Number of different segments, which are repeated."""

AT_ONCE: Final = 12
"""Threads per writer process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Writes of a process in a step: the lag of each segment, and its CPU time."""

    late_s: list[float] = field(default_factory=list)
    check_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


class Channel:
    """One channel on air."""

    def __init__(self, url: str, number: int, start: datetime) -> None:
        self.slug = f"channel-{number}"
        self._engine = make_engine(url)
        self._start, self._next = start, 0
        with self._engine.begin() as connection:
            channel = ensure_channel(connection, self.slug, "https://example.org/live")
            self._broadcast = open_broadcast(connection, channel_id=channel, started_at=start)
        self._store = Store(
            engine=self._engine,
            channel_id=channel,
            broadcast_id=self._broadcast,
            model="retinaface-mobilenet0.25+showmood-expression-2",
            machine="north",
        )
        self._lock = ChannelLock(self._engine, self.slug, f"run-{number}")
        self._lock.take()

    def check(self) -> None:
        """Check the lock, like `Hold`."""
        self._lock.check()

    def store(self, rows: ObservationRows, state: dict[str, Any]) -> None:
        """Store the next segment; its rows' times are relative to the epoch."""
        at = self._start + timedelta(seconds=SEGMENT_S * self._next)
        shift = np.datetime64(at.replace(tzinfo=None), "us") - np.datetime64(0, "us")
        step = np.timedelta64(200_000, "us")
        observations = Observations(
            ts=rows.ts + shift,
            track=rows.track + self._next // MADE,
            boxes=rows.boxes,
            scores=rows.scores,
            probs=rows.probs,
            smoothed=rows.smoothed,
            pose=np.zeros((len(rows), 2), np.float32),
            frames=np.datetime64(at.replace(tzinfo=None), "us") + np.arange(LOOKS) * step,
        )
        folder = f"/var/lib/showmood/recordings/{self.slug}/{self._start:%Y%m%dT%H%M%SZ}-1"
        segment = Segment(
            channel=self.slug,
            broadcast=self._broadcast,
            sequence=self._next,
            start=at,
            start_is_estimated=False,
            duration_s=SEGMENT_S,
            path=Path(f"{folder}/0001-{self._start:%Y%m%dT%H%M%SZ}-{self._next:06d}.ts"),
            width_px=1280,
            height_px=720,
        )
        self._next += 1
        self._store.analysed(
            segment,
            observations,
            frames=LOOKS,
            fps=5.0,
            tracker_state=state,
            closed_at=datetime.now(UTC),
        )


def made_segments() -> list[ObservationRows]:
    """Return a minute of a show in segments, with times relative to the epoch."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    made = []
    for number in range(MADE):
        rows = make_show((number,), start=epoch, seconds=60.0)
        parts = list(pieces(rows, start=epoch, seconds=60.0, segment_s=SEGMENT_S))
        at, part = parts[number]
        shift = np.timedelta64(round(at.timestamp() * 1e6), "us")
        made.append(_shifted(part, shift))
    return made


def _shifted(rows: ObservationRows, by: np.timedelta64) -> ObservationRows:
    moved = rows.take(np.arange(len(rows)))
    moved.ts[:] -= by
    return moved


def made_state() -> dict[str, Any]:
    """Return a tracker's state of the size for three faces."""
    random = np.random.default_rng(7)
    known = [float(each) for each in np.float32(random.random(128))]
    tracks = [
        {"number": n, "seen_us": 10**15, "box": known[n : n + 4], "velocity": known[:4]}
        for n in range(3)
    ]
    means = [
        {"track": n, "seen_us": 10**15, "mean": known[n : n + 8], "weight": known[:8]}
        for n in range(3)
    ]
    return {
        "version": 3,
        "tracker": {"next": 12, "tracks": tracks},
        "smoother": means,
        "histogram": known[:57],
        "usual": known[0],
        "seen_us": 10**15,
    }


def write(pipe: Connection, url: str, start: datetime) -> None:
    """Execute commands from the pipe: add channels, write for a time; None: end."""
    channels: list[Channel] = []
    made, state = made_segments(), made_state()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        while (asked := pipe.recv()) is not None:
            kind, value = asked
            if kind == "channels":
                channels += threads.map(lambda number: Channel(url, number, start), value)
                pipe.send(len(channels))
            else:
                pipe.send(_write_for(channels, value, made, state, threads))


def _write_for(
    channels: list[Channel],
    span: tuple[float, float],
    made: list[ObservationRows],
    state: dict[str, Any],
    threads: ThreadPoolExecutor,
) -> Written:
    """Write in a range of time (seconds since 1970); unfinished segments count as late."""
    begin, end = span
    n = len(channels)
    written, cpu_s = Written(), time.process_time()
    due = [(begin + SEGMENT_S * i / n, i, kind) for i in range(n) for kind in (0, 1)]
    heapq.heapify(due)
    jobs = []

    def do(at: float, channel: Channel, kind: int) -> None:
        try:
            if kind:
                began = time.time()
                channel.check()
                written.check_s.append(time.time() - began)
            else:
                channel.store(made[int(at) % MADE], state)
                written.late_s.append(time.time() - at)
        except Exception as e:  # noqa: BLE001 - it is what is measured
            written.failed.append(f"{type(e).__name__}: {e}")

    while due[0][0] < end:
        at, i, kind = heapq.heappop(due)
        heapq.heappush(due, (at + SEGMENT_S, i, kind))
        time.sleep(max(0.0, at - time.time()))
        jobs.append(threads.submit(do, at, channels[i], kind))
    for job in jobs:
        job.result()
    took = time.process_time() - cpu_s
    return Written(
        late_s=written.late_s, check_s=written.check_s, failed=written.failed, cpu_s=took
    )


def make_months(url: str, start: datetime) -> None:
    """Create the partition for the writes."""
    engine = make_engine(url)
    with engine.begin() as connection:
        ensure_partition(connection, start)
    engine.dispose()
