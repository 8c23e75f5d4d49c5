"""The database with many channels: maximum number, and cost of each."""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import psycopg2
from sqlalchemy import Engine, text

from benchmarks.history.made_shows import make_show
from benchmarks.history.rows import Show, load
from benchmarks.thousand.channels import SEGMENT_S, Written, make_months, write
from db.embedded.server import EmbeddedPostgres
from db.session import make_engine, upgrade
from db.writing.writes import ensure_channel, ensure_partition, open_broadcast
from flows.live.locking.channel_turn import waiting_run
from flows.report.text import markdown

WRITERS: Final = 3
MAX_CONNECTIONS: Final = 2500
BEHIND_S: Final = 2.0
"""Lag in seconds at which the next segment is already waiting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Results with a number of channels."""

    channels: int
    segments_a_s: float
    median_ms: float
    p95_ms: float
    database_ms: float
    writer_ms: float
    transactions_a_s: float
    wal_bytes: float
    connections: int
    failed: int

    @property
    def is_behind(self) -> bool:
        """Whether it fell behind."""
        wanted = self.channels / SEGMENT_S
        return self.failed > 0 or self.p95_ms > BEHIND_S * 1000 or self.segments_a_s < 0.95 * wanted


def measure(steps: list[int], seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Add channels to one embedded Postgres until it falls behind."""
    with tempfile.TemporaryDirectory(prefix="showmood-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # for the server's OS user
        server = EmbeddedPostgres(
            directory / "pg", open_dir=directory / "open", die_with_owner=True
        )
        with server:
            usual = _ask(server.url, "SHOW max_connections")
            _ask(server.url, f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}")
        with server:
            upgrade(server.url)
            start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
            make_months(server.url, start)
            postmaster = psutil.Process(_postmaster(server))
            found: dict[str, Any] = {"connections by default": int(usual[0])}
            found["asked by hand, few connections, ms"] = _asking_ms(server.url)
            found["steps"] = _ramp(server.url, postmaster, start, steps, seconds, say, found)
            found["a report of an hour, ms"] = _report_ms(server.url)
            found["bytes an observation and its segment"] = _bytes(server.url)
    return found


def _ramp(
    url: str,
    postmaster: psutil.Process,
    start: datetime,
    steps: list[int],
    seconds: float,
    say: Callable[[str], None],
    found: dict[str, Any],
) -> list[Step]:
    context = multiprocessing.get_context("spawn")
    writers = []
    for _ in range(WRITERS):
        ours, theirs = context.Pipe()
        process = context.Process(target=write, args=(theirs, url, start), daemon=True)
        process.start()
        writers.append((process, ours))
    done: list[Step] = []
    there = 0
    try:
        for n_channels in steps:
            for i, (_, pipe) in enumerate(writers):
                pipe.send(("channels", list(range(there + i, n_channels, WRITERS))))
            for _, pipe in writers:
                pipe.recv()
            there = n_channels
            _step(
                url, postmaster, writers, n_channels, 4.0
            )  # warm-up: their first statements are planned
            step = _step(url, postmaster, writers, n_channels, seconds)
            done.append(step)
            say(
                f"{step.channels:5} channels: {step.segments_a_s:6.1f} segments/s, late"
                f" {step.median_ms:6.1f} / {step.p95_ms:7.1f} ms, database"
                f" {step.database_ms:.2f} ms CPU a segment, writers {step.writer_ms:.2f},"
                f" {step.transactions_a_s:.0f} transactions/s, {step.wal_bytes / 1e3:.1f} kB WAL a"
                f" segment, {step.connections} connections, {step.failed} failed"
            )
            if step.is_behind:
                break
        found["memory of a connection that writes, that holds a lock, MB"] = _memory_mb(url)
        found["asked by hand, many connections, ms"] = _asking_ms(url)
    finally:
        for _, pipe in writers:
            pipe.send(None)
        for process, _ in writers:
            process.join(20)
            process.kill()
    return done


def _step(
    url: str, postmaster: psutil.Process, writers: list[Any], n_channels: int, seconds: float
) -> Step:
    began = time.time() + 0.3
    for _, pipe in writers:
        pipe.send(("write", (began, began + seconds)))
    time.sleep(0.3)
    cpu_s, counted = _cpu_s(postmaster), _counters(url)
    answers: list[Written] = [pipe.recv() for _, pipe in writers]
    took_s = time.time() - began
    spent_s, after = _cpu_s(postmaster) - cpu_s, _counters(url)
    late = np.array([each for one in answers for each in one.late_s]) * 1000
    n = max(1, len(late))
    return Step(
        channels=n_channels,
        segments_a_s=n / took_s,
        median_ms=float(np.median(late)) if len(late) else float("inf"),
        p95_ms=float(np.percentile(late, 95)) if len(late) else float("inf"),
        database_ms=spent_s / n * 1000,
        writer_ms=sum(one.cpu_s for one in answers) / n * 1000,
        transactions_a_s=(after[0] - counted[0]) / took_s,
        wal_bytes=float(after[1] - counted[1]) / n,
        connections=int(after[2]),
        failed=sum(len(one.failed) for one in answers),
    )


def _ask(url: str, statement: str) -> Any:  # noqa: ANN401
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def _counters(url: str) -> Any:  # noqa: ANN401
    return _ask(
        url,
        "SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),"
        " pg_current_wal_lsn() - '0/0'::pg_lsn,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
    )


def _postmaster(server: EmbeddedPostgres) -> int:
    return int((server.log_path.parent / "postmaster.pid").read_text().split()[0])


def _cpu_s(postmaster: psutil.Process) -> float:
    total = sum(postmaster.cpu_times()[:4])  # including ended children
    for child in postmaster.children():
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory_mb(url: str) -> list[float]:
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        found = []
        for locks in ("NOT", ""):
            cursor.execute(
                "SELECT pid FROM pg_stat_activity a WHERE backend_type = 'client backend'"
                f" AND pid <> pg_backend_pid() AND {locks} EXISTS (SELECT FROM pg_locks l"
                " WHERE l.pid = a.pid AND l.locktype = 'advisory') LIMIT 20"
            )
            uss = [psutil.Process(pid).memory_full_info().uss / 1e6 for (pid,) in cursor]
            found.append(statistics.median(uss) if uss else float("nan"))
    connection.close()
    return found


def _backend_ms(engine: Engine, ask: Callable[[Any], object], times: int) -> float:
    """Return the CPU time of the server's process for a query, in ms."""
    with engine.connect() as connection:
        backend = psutil.Process(int(connection.scalar(text("SELECT pg_backend_pid()")) or 0))
        ask(connection)
        before = sum(backend.cpu_times()[:2])
        for _ in range(times):
            ask(connection)
        return (sum(backend.cpu_times()[:2]) - before) / times * 1000


def _asking_ms(url: str) -> float:
    """Return the cost for a show started by hand to check for waiting scheduled runs."""
    engine = make_engine(url)
    try:
        with engine.connect() as held:
            pid = int(held.scalar(text("SELECT pg_backend_pid()")) or 0)
        backend = psutil.Process(pid)  # the pool returns the same one
        before = sum(backend.cpu_times()[:2])
        for _ in range(100):
            waiting_run(engine, "channel-0")
        return (sum(backend.cpu_times()[:2]) - before) / 100 * 1000
    finally:
        engine.dispose()


def _report_ms(url: str) -> float:
    engine = make_engine(url)
    start = datetime(2026, 1, 1, 19, tzinfo=UTC)
    with engine.begin() as connection:
        channel = ensure_channel(connection, "an-hour", "https://example.org/live")
        broadcast = open_broadcast(connection, channel_id=channel, started_at=start)
        ensure_partition(connection, start)
    rows = make_show((1,), start=start, seconds=3600.0)
    show = Show(number=0, channel=channel, broadcast=broadcast, start=start, rows=rows)
    with engine.begin() as connection:
        load(connection, show)
    until = start + timedelta(hours=1)
    try:
        return _backend_ms(
            engine, lambda connection: markdown(connection, "an-hour", start, until), 3
        )
    finally:
        engine.dispose()


def _bytes(url: str) -> list[float]:
    found = _ask(
        url,
        "SELECT (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('observations')"
        " WHERE isleaf)::float8 / (SELECT count(*) FROM observations),"
        " pg_total_relation_size('segments')::float8 / (SELECT count(*) FROM segments)",
    )
    return [float(each) for each in found]
