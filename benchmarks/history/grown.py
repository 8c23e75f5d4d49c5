"""A history of 100 M rows beside one of 1.5 M.

python -m benchmarks.history.grown load|ask DIR [--rows N]

load: creates both in DIR, in an embedded Postgres (`benchmarks.history.grown_rows`). ask: runs
the queries of the cookbook, the page and `benchmarks.history`, cold (nothing in memory) and warm,
and prints a table. DIR is kept for more queries: delete it afterwards.
"""

import argparse
import json
import logging
import os
import re
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg2
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from benchmarks.history import grown_rows
from benchmarks.history.cookbook_shows import fill
from benchmarks.history.grown_blocks import BLOCKS, make_block
from benchmarks.history.grown_questions import Question, all_questions
from db.embedded.server import EmbeddedPostgres
from db.session import make_engine, upgrade

LOADING: Final = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
    "shared_buffers": "512MB",
}
"""Settings without durability, because the data can be generated again."""

FEW, MANY = "few", "many"
COLD: Final = 3
WARM: Final = 9
WARM_ENOUGH_MS: Final = 6000.0
LIMIT_S: Final = 60.0


def server_in(directory: Path) -> EmbeddedPostgres:
    """Return the server with its data below a directory."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o755)  # for the server's OS user
    return EmbeddedPostgres(directory / "pg", open_dir=directory / "open")


def url_of(server: EmbeddedPostgres, name: str) -> str:
    """Return the URL of one of its databases."""
    return re.sub(r"/showmood\?", f"/{name}?", server.url)


def administer(server: EmbeddedPostgres, *statements: str) -> None:
    """Run a statement that is not allowed in a transaction."""
    connection = psycopg2.connect(url_of(server, "postgres"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def load(directory: Path, n_rows: int) -> None:
    """Create both."""
    server = server_in(directory)
    with server:
        settings = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in LOADING.items()]
        administer(server, *settings)
    with server:
        administer(server, f"CREATE DATABASE {FEW}")
        upgrade(url_of(server, FEW))
        engine = make_engine(url_of(server, FEW))
        began = time.perf_counter()
        fill(engine)
        blocks = [make_block(engine, n) for n in range(BLOCKS)]
        logging.warning("the made hours: %.0f s", time.perf_counter() - began)
        engine.dispose()
        administer(server, f"CREATE DATABASE {MANY} TEMPLATE {FEW}")
        engine = make_engine(url_of(server, MANY))
        began = time.perf_counter()
        made = grown_rows.grow(engine, blocks, n_rows)
        logging.warning("%d rows more: %.0f s", made, time.perf_counter() - began)
        engine.dispose()
        for name in (FEW, MANY):
            engine = make_engine(url_of(server, name))
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                began = time.perf_counter()
                connection.execute(text("VACUUM (ANALYZE)"))
                logging.warning("vacuumed: %.0f s", time.perf_counter() - began)
            engine.dispose()
        administer(server, "CHECKPOINT", "ALTER SYSTEM RESET ALL")


def forget(server: EmbeddedPostgres) -> None:
    """Drop its files from the page cache; the server's own cache is lost at its restart."""
    for path in server.log_path.parent.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


class Asked:
    """One database, with a function to restart its server."""

    def __init__(self, server: EmbeddedPostgres, name: str) -> None:
        self.server, self.name = server, name
        self.shows: list[dict[str, Any]] = []

    def engine(self) -> Engine:
        """Return its engine."""
        engine = make_engine(url_of(self.server, self.name))

        @event.listens_for(engine, "connect")
        def _bound(connection: Any, record: object) -> None:  # noqa: ANN401
            cursor = connection.cursor()
            cursor.execute(f"SET statement_timeout = {round(LIMIT_S * 1000)}")
            cursor.execute("SET jit = off")
            cursor.close()
            connection.commit()

        return engine

    def ms(self, ask: Question, number: int) -> float | None:
        """Return the time of a query, reading all rows, in ms; None if it takes too long."""
        engine = self.engine()
        try:
            with engine.connect() as connection:
                began = time.perf_counter()
                ask(connection, self.shows[number % len(self.shows)])
                return (time.perf_counter() - began) * 1000
        except OperationalError:
            return None
        finally:
            engine.dispose()

    def cold(self, ask: Question) -> float | None:
        """Return the median of a few runs, each with cold caches."""
        took = []
        for number in range(COLD):
            self.server.stop()
            forget(self.server)
            self.server.start()
            took.append(self.ms(ask, 7 + 11 * number))
        return None if None in took else median(took)  # type: ignore[type-var]

    def warm(self, ask: Question) -> float | None:
        """Return the median of several runs on one connection, after a first one."""
        engine, took = self.engine(), []
        try:
            with engine.connect() as connection:
                for number in range(WARM):
                    show = self.shows[(3 + 11 * number) % len(self.shows)]
                    for again in (False, True):
                        began = time.perf_counter()
                        ask(connection, show)
                        if again:
                            took.append((time.perf_counter() - began) * 1000)
                    if sum(took) > WARM_ENOUGH_MS:
                        break
        except OperationalError:
            return None
        finally:
            engine.dispose()
        return median(took)


def shows_of(engine: Engine) -> list[dict[str, Any]]:
    """Return the shows of an hour of the cookbook's channels, shuffled."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT b.id AS broadcast, c.slug, b.channel_id AS channel, b.started_at AS start"
                " FROM broadcasts b JOIN channels c ON c.id = b.channel_id"
                " WHERE b.ended_at - b.started_at >= interval '1 hour' ORDER BY md5(b.id::text)"
            )
        )
        return [
            {**row._mapping, "start": row.start, "end": row.start + timedelta(hours=1)}
            for row in rows
        ]


def size(engine: Engine) -> dict[str, Any]:
    """Return rows and bytes of the large tables."""
    with engine.connect() as connection:
        found: dict[str, Any] = {
            table: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)
            for table in ("broadcasts", "segments", "seconds", "observations")
        }
        found["bytes"] = {
            table: connection.scalar(
                text(
                    "SELECT sum(pg_total_relation_size(relid))::bigint"
                    " FROM pg_partition_tree(:table) WHERE isleaf"
                ),
                {"table": table},
            )
            or connection.scalar(text("SELECT pg_total_relation_size(:t)"), {"t": table})
            for table in ("observations", "seconds", "segments", "emotion_minutes", "face_tracks")
        }
    return found


def ask(directory: Path, only: str, n_cold: bool) -> dict[str, Any]:
    """Query both; print a row of the table for each query."""
    server = server_in(directory)
    found: dict[str, Any] = {}
    with server:
        both = [Asked(server, FEW), Asked(server, MANY)]
        for each in both:
            engine = each.engine()
            each.shows = shows_of(engine)
            found[each.name] = size(engine) if n_cold else {}
            engine.dispose()
        for kind, questions in all_questions().items():
            for name, question in questions.items():
                if only and not re.search(only, f"{kind}: {name}"):
                    continue
                took = []
                for each in both:
                    took += [each.cold(question) if n_cold else None, each.warm(question)]
                found[f"{kind}: {name}"] = took
                cells = " | ".join("-" if ms is None else f"{ms:,.1f}" for ms in took)
                print(f"| {kind}: {name} | {cells} |", flush=True)
    return found


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("load", "ask"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--only", default="", help="questions whose name has this pattern")
    parser.add_argument("--warm", action="store_true", help="only warm")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    if asked.what == "load":
        load(asked.directory, asked.rows)
        return
    found = ask(asked.directory, asked.only, not asked.warm)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
