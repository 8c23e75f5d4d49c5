"""Measures the history: python -m benchmarks.history [--rows 1000000] [--json FILE].

Ten channels, a year of shows of an hour (`benchmarks.made_shows`, seeded) in an embedded Postgres
of its own, settings as `showmood up` has them, synced to disk. First through the real write path
(`replace_segment`, 60 s segments as in a bulk replay, then 2 s segments as on air), up to
`--through` rows; the rest of the rows by COPY with their minutes and tracks, since only their
number matters to the questions. The same rows once more with the emotions as one JSONB column, and
as one row an emotion.
"""

import argparse
import io
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, text

from benchmarks.made_shows import make_show, pieces
from db.copying import COPY, encode, months, track_ids
from db.embedded import EmbeddedPostgres
from db.maintain import Retention, maintain
from db.models import EMOTIONS, TRACKS_PER_BROADCAST
from db.rows import ObservationRows, SegmentRow
from db.session import make_engine, upgrade
from db.writes import ensure_channel, ensure_partition, open_broadcast, replace_segment

CHANNELS = 10
SHOW_S = 3600.0
YEAR = datetime(2025, 1, 1, tzinfo=UTC)
REPEATS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """One made show, with its rows."""

    number: int
    channel: int
    broadcast: int
    start: datetime
    rows: ObservationRows


def shows(engine: Engine, n_rows: int) -> Iterator[Show]:
    """Make shows, spread over a year and the channels, until there are so many rows."""
    per_show = 54_000
    count = max(CHANNELS, -(-n_rows // per_show))
    made = 0
    for number in range(count):
        if made >= n_rows and number >= CHANNELS:
            return
        slot = timedelta(days=365) * (number // CHANNELS) / max(1, -(-count // CHANNELS))
        start = (YEAR + slot).replace(minute=0, second=0, microsecond=0)
        with engine.begin() as connection:
            channel = ensure_channel(connection, f"channel-{number % CHANNELS}", "http://made")
            broadcast = open_broadcast(connection, channel_id=channel, started_at=start)
            ensure_partition(connection, start)
        rows = make_show((number,), start=start, seconds=SHOW_S)
        made += len(rows)
        yield Show(number=number, channel=channel, broadcast=broadcast, start=start, rows=rows)


def store(
    engine: Engine, show: Show, *, segment_s: float, seconds: float
) -> tuple[int, list[float]]:
    """Store a show's first seconds by the real write path: rows, and seconds for each segment."""
    n_rows, took = 0, []
    cut = pieces(show.rows, start=show.start, seconds=seconds, segment_s=segment_s)
    for index, (at, part) in enumerate(cut):
        segment = SegmentRow(
            channel_id=show.channel,
            broadcast_id=show.broadcast,
            sequence=index,
            started_at=at,
            duration_s=segment_s,
            frames_analysed=round(segment_s * 5),
            lag_ms=900,
        )
        began = time.perf_counter()
        n_rows += replace_segment(engine, segment, part).observations
        took.append(time.perf_counter() - began)
    return n_rows, took


def load(connection: Connection, show: Show) -> None:
    """Put a show in by COPY, with the segments, tracks and minutes that the write path makes."""
    copy(connection, COPY, encode(show.channel, show.broadcast, show.rows))
    ids = track_ids(show.broadcast, show.rows.track)
    order = np.argsort(ids, kind="stable")
    present, first = np.unique(ids[order], return_index=True)
    ts = show.rows.ts[order]
    last = np.append(first[1:], len(ids)) - 1
    connection.execute(
        text("INSERT INTO face_tracks VALUES (:id, :broadcast, :no, :first, :last)"),
        [
            {
                "id": int(present[i]),
                "broadcast": show.broadcast,
                "no": int(present[i] % TRACKS_PER_BROADCAST),
                "first": ts[first[i]].item().replace(tzinfo=UTC),
                "last": ts[last[i]].item().replace(tzinfo=UTC),
            }
            for i in range(len(present))
        ],
    )
    span = {
        "channel": show.channel,
        "broadcast": show.broadcast,
        "start": show.start,
        "end": show.start + timedelta(seconds=SHOW_S),
    }
    means = ", ".join(f"avg(smoothed_{emotion})" for emotion in EMOTIONS)
    connection.execute(
        text(
            "INSERT INTO emotion_minutes SELECT channel_id, date_trunc('minute', ts, 'UTC'),"
            f" :broadcast, count(*), count(DISTINCT track_id), {means} FROM observations"
            " WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1, 2"
        ),
        span,
    )
    connection.execute(
        text(
            "INSERT INTO segments (channel_id, started_at, ended_at, broadcast_id, sequence,"
            " duration_s, status, frames_analysed, lag_ms) SELECT :channel, at,"
            " at + interval '2 s', :broadcast, row_number() OVER (ORDER BY at) - 1, 2, 'analysed',"
            " 10, 900 FROM generate_series(CAST(:start AS timestamptz),"
            " CAST(:end AS timestamptz) - interval '2 s', interval '2 s') at"
        ),
        span,
    )


def copy(connection: Connection, statement: str, payload: bytes) -> None:
    """Send bytes by COPY."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    cursor = driver.cursor()
    cursor.copy_expert(statement, io.BytesIO(payload))
    cursor.close()


ALTERNATIVES = {
    "one JSONB column": (
        "CREATE TABLE other_jsonb (ts timestamptz, track_id bigint, channel_id integer, x0 real,"
        " y0 real, x1 real, y1 real, score real, emotions jsonb,"
        " PRIMARY KEY (channel_id, ts, track_id))",
        "INSERT INTO other_jsonb SELECT ts, track_id, channel_id, x0, y0, x1, y1, score,"
        " jsonb_strip_nulls(jsonb_build_object("
        + ", ".join(f"'{e}', {e}, 'smoothed_{e}', smoothed_{e}" for e in EMOTIONS)
        + ")) FROM observations",
        "SELECT date_trunc('minute', ts), "
        + ", ".join(f"avg((emotions->>'smoothed_{e}')::real)" for e in EMOTIONS)
        + " FROM other_jsonb WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1",
    ),
    "one row an emotion": (
        "CREATE TABLE other_long (ts timestamptz, track_id bigint, channel_id integer,"
        " emotion smallint, value real, smoothed real,"
        " PRIMARY KEY (channel_id, ts, track_id, emotion))",
        "INSERT INTO other_long SELECT o.ts, o.track_id, o.channel_id, e.emotion, e.value,"
        " e.smoothed FROM observations o CROSS JOIN LATERAL (VALUES "
        + ", ".join(f"({i}::smallint, {e}, smoothed_{e})" for i, e in enumerate(EMOTIONS))
        + ") e (emotion, value, smoothed) WHERE e.value IS NOT NULL",
        "SELECT date_trunc('minute', ts), emotion, avg(smoothed) FROM other_long"
        " WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1, 2",
    ),
}

AS_IT_IS = (
    "SELECT date_trunc('minute', ts), "
    + ", ".join(f"avg(smoothed_{e})" for e in EMOTIONS)
    + " FROM observations WHERE channel_id = :channel AND ts >= :start AND ts < :end GROUP BY 1"
)

A_SHOW = "broadcast_id = :broadcast"
AN_HOUR = "channel = :slug AND ts >= :start AND ts < :end"

QUESTIONS = {
    "a show, by minute": f"SELECT * FROM emotion_timeline WHERE {A_SHOW} ORDER BY minute",
    "a show, summary": f"SELECT * FROM show_summary WHERE {A_SHOW}",
    "a show, coverage": f"SELECT * FROM coverage WHERE {A_SHOW}",
    "a show, its faces": f"SELECT * FROM track_summary WHERE {A_SHOW}",
    "a show, by second": f"SELECT * FROM emotion_seconds WHERE {A_SHOW}",
    "a show, angry faces": "SELECT track, count(*) FROM emotion_history"
    f" WHERE {AN_HOUR} AND emotion = 'anger' GROUP BY track",
    "a minute, every face": "SELECT * FROM emotion_history WHERE channel = :slug"
    " AND ts >= :start AND ts < CAST(:start AS timestamptz) + interval '1 minute'",
    "a channel, newest 20": "SELECT * FROM emotion_newest(:slug, 20)",
    "a channel, newest 20, by the view": "SELECT * FROM emotion_history WHERE channel = :slug"
    " ORDER BY ts DESC LIMIT 20",
    "a channel-year, by week": "SELECT * FROM emotion_between(:slug, '2025-01-01 00:00+00',"
    " '2026-01-01 00:00+00', '7 days')",
    "a channel-year, happiest minute": "SELECT * FROM emotion_timeline WHERE channel = :slug"
    " ORDER BY happiness DESC NULLS LAST LIMIT 3",
    "a channel-year, last ten shows": "WITH s AS (SELECT broadcast_id FROM coverage"
    " WHERE channel = :slug ORDER BY started_at DESC LIMIT 11)"
    " SELECT emotion, sum(share * observations) / sum(observations) FROM emotion_long"
    " JOIN s USING (broadcast_id) GROUP BY emotion",
    "a channel-year, shows with holes": "SELECT * FROM coverage WHERE channel = :slug"
    " AND (gaps > 0 OR failed > 0)",
}


FULL_YEAR = (
    "INSERT INTO channels (slug, url) VALUES ('full', 'made');"
    " INSERT INTO broadcasts (channel_id, started_at, status) SELECT id, day, 'completed'"
    " FROM channels, generate_series(TIMESTAMPTZ '2025-01-01 10:00+00', '2025-12-31 10:00+00',"
    " '1 day') day WHERE slug = 'full';"
    " INSERT INTO emotion_minutes SELECT b.channel_id, b.started_at + n * interval '1 minute',"
    f" b.id, 900, 4, {', '.join(['random()'] * len(EMOTIONS))}"
    " FROM broadcasts b JOIN channels c ON c.id = b.channel_id, generate_series(0, 719) n"
    " WHERE c.slug = 'full'"
)
"""A channel that is on air 12 hours a day, all year: 262,800 minutes, without raw rows."""

OF_A_FULL_YEAR = {
    "a full channel-year, by week": "a channel-year, by week",
    "a full channel-year, happiest minute": "a channel-year, happiest minute",
    "a full channel-year, last ten shows": "a channel-year, last ten shows",
}


def time_ms(
    engine: Engine, statement: str, values: Callable[[], dict[str, Any]]
) -> dict[str, float]:
    """Return median and p95 of the statement over random values, each read to its end."""
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
    """Drop the first month while a writer stores; the drop's time and the writer's worst."""
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
            if index:  # the first makes its partition
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
        directory.chmod(0o755)  # the server's OS user has to get there
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
