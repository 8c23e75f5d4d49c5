"""Measures the history: python -m benchmarks.history [--rows 1000000] [--json FILE].

Ten channels, a year of shows of an hour (`made_shows`, seeded) in its own embedded Postgres
with the settings of `showmood up`, synced to disk. The first `--through` rows use the real write
path (`replace_segment`, 60 s segments as in a bulk replay, then 2 s segments as on air);
the rest uses COPY with minutes and tracks, because only the number of rows
matters for queries. The same rows are also stored with the emotions as one JSONB column, and
as one row per emotion.
"""

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from benchmarks.history.made_shows import make_show
from benchmarks.history.queries import (
    ALTERNATIVES,
    AS_IT_IS,
    FULL_YEAR,
    OF_A_FULL_YEAR,
    QUESTIONS,
)
from benchmarks.history.rows import CHANNELS, SHOW_S, YEAR, Show, load, shows, store
from db.embedded.server import EmbeddedPostgres
from db.maintain import Retention, maintain
from db.session import make_engine, upgrade
from db.writing.copying import months
from db.writing.rows import SegmentRow
from db.writing.writes import ensure_partition, replace_segment

REPEATS = 30


def time_ms(
    engine: Engine, statement: str, values: Callable[[], dict[str, Any]]
) -> dict[str, float]:
    """Return median and p95 of the statement over random values, reading all rows."""
    took = []
    with engine.connect() as connection:
        for _ in range(REPEATS):
            chosen = values()
            began = time.perf_counter()
            connection.execute(text(statement), chosen).all()
            took.append((time.perf_counter() - began) * 1000)
    return {"median": float(np.median(took)), "p95": float(np.percentile(took, 95))}


def size(engine: Engine, table: str) -> int:
    """Return a table's bytes, partitions and indexes included."""
    with engine.connect() as connection:
        return int(
            connection.scalar(
                text(
                    "SELECT coalesce((SELECT sum(pg_total_relation_size(relid))"
                    " FROM pg_partition_tree(:table) WHERE isleaf),"
                    " pg_total_relation_size(:table))"
                ),
                {"table": table},
            )
            or 0
        )


def drop_a_month(engine: Engine, show: Show) -> dict[str, float]:
    """Drop a month while a writer stores; return the times of the drop and of the writer."""
    stop, worst = threading.Event(), [0.0]

    def write() -> None:
        index = 0
        start = YEAR + timedelta(days=400)
        while not stop.is_set():
            at = start + timedelta(seconds=2 * index)
            segment = SegmentRow(
                channel_id=show.channel,
                broadcast_id=show.broadcast,
                sequence=index,
                started_at=at,
                duration_s=2.0,
            )
            rows = make_show((index,), start=at, seconds=2, seats=4)
            began = time.perf_counter()
            replace_segment(engine, segment, rows)
            if index:  # the first one creates its partition
                worst[0] = max(worst[0], time.perf_counter() - began)
            index += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(1.0)
        quiet, worst[0] = worst[0], 0.0
        began = time.perf_counter()
        done = maintain(engine, Retention(observations_days=35), now=YEAR + timedelta(days=67))
        took = time.perf_counter() - began
    finally:
        stop.set()
        writer.join()
    assert done[0].dropped, done
    return {
        "seconds": took,
        "months": float(len(done[0].dropped)),
        "writer_worst_ms_before": quiet * 1000,
        "writer_worst_ms": worst[0] * 1000,
    }


def measure(engine: Engine, n_rows: int, through: int, alternatives: int) -> dict[str, Any]:
    """Fill the database and measure it."""
    found: dict[str, Any] = {"rows": n_rows}
    stored, replay = 0, 0.0
    all_shows: list[Show] = []
    on_air: list[float] = []
    for show in shows(engine, n_rows):
        all_shows.append(replace(show, rows=show.rows.take(np.arange(0))))
        if show.number == 0:
            _, on_air = store(engine, show, segment_s=2.0, seconds=1200.0)
            continue
        if stored < through:
            n, took = store(engine, show, segment_s=60.0, seconds=SHOW_S)
            stored, replay = stored + n, replay + sum(took)
            continue
        with engine.begin() as connection:
            for month in months(show.rows):
                ensure_partition(
                    connection, month.astype("datetime64[us]").item().replace(tzinfo=UTC)
                )
            load(connection, show)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        there = int(connection.scalar(text("SELECT count(*) FROM observations")) or 0)
    found["rows"] = there
    found["bulk replay, rows/s"] = stored / replay
    found["2 s segment, ms"] = {
        "median": float(np.median(on_air)) * 1000,
        "p95": float(np.percentile(on_air, 95)) * 1000,
    }
    found["bytes a row"] = size(engine, "observations") / there
    found["bytes a minute row"] = size(engine, "emotion_minutes") / max(1, len(all_shows) * 60)
    random = np.random.default_rng(7)

    def values() -> dict[str, Any]:
        show = all_shows[random.integers(len(all_shows))]
        return {
            "slug": f"channel-{show.number % CHANNELS}",
            "channel": show.channel,
            "broadcast": show.broadcast,
            "start": show.start,
            "end": show.start + timedelta(hours=1),
        }

    found["questions, ms"] = {
        name: time_ms(engine, statement, values) for name, statement in QUESTIONS.items()
    }
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(FULL_YEAR))
        connection.execute(text("VACUUM ANALYZE emotion_minutes, broadcasts"))
    found["questions, ms"] |= {
        name: time_ms(engine, QUESTIONS[same], lambda: {"slug": "full"})
        for name, same in OF_A_FULL_YEAR.items()
    }
    hour = {
        "columns, as it is": time_ms(engine, AS_IT_IS, values) | {"bytes": found["bytes a row"]}
    }
    for name, (create, fill, ask) in ALTERNATIVES.items() if there <= alternatives else ():
        table = create.split()[2]
        with engine.begin() as connection:
            connection.execute(text(create))
            began = time.perf_counter()
            connection.execute(text(fill))
            filled_s = time.perf_counter() - began
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"VACUUM ANALYZE {table}"))
        hour[name] = time_ms(engine, ask, values)
        hour[name] |= {"bytes": size(engine, table) / there, "fill s": filled_s}
        with engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {table}"))
    found["an hour by minute, ms, and bytes an observation"] = hour
    found["drop a month"] = drop_a_month(engine, all_shows[0])
    return found


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--through", type=int, default=500_000, help="rows by the real write path")
    parser.add_argument("--alternatives", type=int, default=2_000_000, help="up to so many rows")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="showmood-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # for the server's OS user
        with EmbeddedPostgres(
            directory / "pg", open_dir=directory / "open", die_with_owner=True
        ) as server:
            upgrade(server.url)
            engine = make_engine(server.url)
            began = time.perf_counter()
            found = measure(engine, arguments.rows, arguments.through, arguments.alternatives)
            found["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
            found["took s"] = time.perf_counter() - began
            engine.dispose()
    said = json.dumps(found, indent=1)
    if arguments.json:
        arguments.json.write_text(said + "\n", encoding="utf-8")
    sys.stdout.write(said + "\n")


if __name__ == "__main__":
    main()
