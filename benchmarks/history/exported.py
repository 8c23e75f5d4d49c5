"""Cost of an export of many faces: CPU time compared with COPY, and memory.

python -m benchmarks.history.exported DIR [--rows 1000000]

DIR: from `benchmarks.history.grown load`. Each format is written by a separate process, for
a quarter of the rows and for all, which shows whether memory grows. Times are CPU time of
the process and of its server process.
"""

import argparse
import resource
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
from sqlalchemy import text

from benchmarks.history.grown import MANY, server_in, url_of
from benchmarks.history.grown_rows import YEAR
from db.session import make_engine
from flows.report.export import export_rows

CHANNEL = "late-night"
FORMS = ("copy", "csv", "parquet")


def write(url: str, form: str, days: int) -> None:
    """Write an export to a temporary file, and print its cost."""
    engine = make_engine(url)
    until = YEAR + timedelta(days=days)
    out = Path(f"/dev/shm/exported-{form}")
    with engine.connect() as connection:
        server = psutil.Process(int(connection.scalar(text("SELECT pg_backend_pid()")) or 0))
        connection.scalar(text("SELECT count(*) FROM show_summary LIMIT 1"))
        n_rows = connection.scalar(
            text(
                "SELECT sum(n) FROM emotion_minutes m JOIN channels c ON c.id = m.channel_id"
                " WHERE slug = :c AND minute >= :since AND minute < :until"
            ),
            {"c": CHANNEL, "since": YEAR, "until": until},
        )
        before = time.process_time(), sum(server.cpu_times()[:2]), time.perf_counter()
        if form == "copy":
            driver = connection.connection.dbapi_connection
            assert driver is not None
            cursor = driver.cursor()
            statement = cursor.mogrify(
                "COPY (SELECT * FROM emotion_history WHERE channel = %s AND ts >= %s AND ts < %s)"
                " TO STDOUT (FORMAT csv)",
                (CHANNEL, YEAR, until),
            )
            with out.open("wb") as file:
                cursor.copy_expert(statement, file)
        else:
            path = out.with_suffix(f".{form}")
            done = export_rows(
                connection, CHANNEL, YEAR, until, path, form="csv" if form == "csv" else "parquet"
            )
            out = path
            if done.sidecar is not None:
                done.sidecar.unlink()
        after = time.process_time(), sum(server.cpu_times()[:2]), time.perf_counter()
    size = out.stat().st_size
    out.unlink()
    client, served, clock = (b - a for a, b in zip(before, after, strict=True))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{form:8}{n_rows:9} faces: {client:6.1f} s CPU, server {served:6.1f} s, {clock:6.1f} s by"
        f" the clock, {size / 1e6:.0f} MB, peak {peak_mb:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    with server_in(asked.directory) as server:
        url = url_of(server, MANY)
        for rows in (asked.rows // 4, asked.rows):
            days = round(rows / 54_000 * 2)  # a show every other day
            for form in FORMS:
                command = [sys.executable, "-m", "benchmarks.history.exported"]
                subprocess.run([*command, "--write", url, form, str(days)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
