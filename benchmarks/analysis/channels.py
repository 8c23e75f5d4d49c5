"""Concurrent live channels on this machine: each a process with its own networks and writes.

A segment is published by giving its file to the process at the time when it would be closed: every
`SEGMENT_S`, the channels one after another. The rest is as in a watch: decoding, both
networks, tracks, one transaction in Postgres.
"""

import contextlib
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from benchmarks.analysis.made_clip import HEIGHT_PX, SEGMENT_S, WIDTH_PX
from db.session import make_engine
from db.writing import writes
from emotion.pipeline import Linker
from emotion.types import Observations
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.segment import Gap, Segment
from flows.capture.supervisor.event_queue import EventQueue
from flows.live.rows.analysis import Analysis, Counts, networks, take_for
from flows.live.rows.observers import Observer
from flows.live.rows.pace import LEVELS
from flows.live.rows.store import Store

UNCOUNTED: Final = 2
"""Number of first segments for warm-up."""

# Forked from a process that has only imported modules, because the networks' threads
# do not survive a fork.
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["benchmarks.analysis.channels"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A stored segment: time since the start, lag, and frame rate."""

    at_s: float
    lag_s: float
    frames: int
    level: int


class _Notes(Observer):
    """Records the stored segments."""

    def __init__(self, began: float) -> None:
        self.analysis: Analysis | None = None
        self.taken: list[Taken] = []
        self._began = began
        self._frames = 0

    def took(self, item: Segment | Gap, observations: Observations | None, counts: Counts) -> None:
        """Record a segment."""
        assert self.analysis is not None
        assert counts.lag_s is not None
        self.taken.append(
            Taken(
                at_s=time.time() - self._began,
                lag_s=counts.lag_s,
                frames=counts.frames - self._frames,
                level=LEVELS.index(self.analysis.pace.level),
            )
        )
        self._frames = counts.frames


def start_of(number: int) -> datetime:
    """Return when a channel's show begins."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)


def watch(
    url: str,
    number: int,
    pieces: list[Path],
    directory: Path,
    n_segments: int,
    begin: Callable[[], float],
    *,
    everywhere: bool = False,
) -> list[Taken]:
    """Watch one generated channel; return its stored segments.

    begin: called after the networks are loaded, returns the start time (seconds since 1970).
    everywhere: search every frame whole.
    """
    directory.mkdir(parents=True, exist_ok=True)
    analyser = networks(DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, "auto", None, None, everywhere)
    analyser.analyse_file(pieces[0])
    database = make_engine(url)
    start = start_of(number)
    with database.begin() as connection:
        channel = writes.ensure_channel(connection, f"channel-{number}", "https://example.com/")
        broadcast = writes.open_broadcast(connection, channel_id=channel, started_at=start)
    began = begin()
    notes = _Notes(began)
    store = Store(engine=database, channel_id=channel, broadcast_id=broadcast, model=analyser.model)
    analysis = notes.analysis = Analysis(
        analyser=analyser,
        linker=Linker(None),
        store=store,
        fps=5.0,
        log=logging.getLogger("benchmark"),
        observer=notes,
    )
    source = EventQueue()

    def publish() -> None:
        for sequence in range(n_segments):
            time.sleep(max(0.0, began + SEGMENT_S * (sequence + 1) - time.time()))
            path = directory / f"{sequence:05}.ts"
            shutil.copyfile(pieces[sequence % len(pieces)], path)
            segment = Segment(
                channel=f"channel-{number}",
                broadcast=broadcast,
                sequence=sequence,
                start=start + timedelta(seconds=SEGMENT_S * sequence),
                start_is_estimated=False,
                duration_s=float(SEGMENT_S),
                path=path,
                width_px=WIDTH_PX,
                height_px=HEIGHT_PX,
            )
            source.put([segment])
        source.close()

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    while not source.finished:
        take_for(analysis, source)
    publisher.join()
    database.dispose()
    return notes.taken


def _child(pipe: Any, arguments: tuple[Any, ...], nice: int, everywhere: bool) -> None:  # noqa: ANN401
    os.nice(nice)

    def begin() -> float:
        pipe.send(None)
        return float(pipe.recv())

    pipe.send(watch(*arguments, begin, everywhere=everywhere))


def watch_together(
    url: str,
    pieces: list[Path],
    work: Path,
    *,
    n_channels: int,
    n_segments: int,
    nice: int = 0,
    everywhere: bool = False,
) -> list[list[Taken]]:
    """Watch several channels at once; return the stored segments of each."""
    forget(url)
    started = []
    for number in range(n_channels):
        ours, theirs = _CONTEXT.Pipe()
        arguments = (url, number, pieces, work / f"{number}", n_segments)
        process = _CONTEXT.Process(
            target=_child, args=(theirs, arguments, nice, everywhere), daemon=True
        )
        process.start()
        theirs.close()
        started.append((process, ours))
    for _, pipe in started:
        pipe.recv()
    began = time.time() + 1.0
    for number, (_, pipe) in enumerate(started):
        pipe.send(began + SEGMENT_S * number / n_channels)
    taken = [pipe.recv() for _, pipe in started]
    for process, _ in started:
        process.join()
    shutil.rmtree(work, ignore_errors=True)
    return taken


def forget(url: str) -> None:
    """Empty the database."""
    database = make_engine(url)
    with database.begin() as connection:
        connection.execute(text("TRUNCATE channels, broadcasts, segments, gaps CASCADE"))
        connection.execute(text("TRUNCATE observations, emotion_minutes, face_tracks"))
    database.dispose()


@contextlib.contextmanager
def busy(n_processes: int, *, from_s: float, until_s: float) -> Iterator[None]:
    """Run this many CPU-bound processes in a range of time."""
    now = time.time()
    times = (now + from_s, now + until_s)
    processes = [
        _CONTEXT.Process(target=_burn, args=times, daemon=True) for _ in range(n_processes)
    ]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.terminate()
        process.join()


def _burn(start: float, end: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    while time.time() < end:
        sum(i * i for i in range(10_000))
