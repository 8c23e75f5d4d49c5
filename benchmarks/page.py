"""Measures the page: python -m benchmarks.page [--rows 1000000] [--json FILE]; medians.

A generated history in its own embedded Postgres with one show of three hours; the page in its own
process; a client on the same machine. Rendering in a browser is not included.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
import psutil

from benchmarks.history.made_shows import make_show, pieces
from benchmarks.history.rows import load, shows
from benchmarks.up import free_port
from db.embedded.server import EmbeddedPostgres
from db.roles import grant_roles
from db.session import make_engine, upgrade
from db.writing.rows import SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    ensure_partition,
    open_broadcast,
    replace_segment,
)
from flows.page.serving import page_access
from flows.settings import Settings

EVENING_S = 3 * 3600.0
TIMES = 7


def timed(ask: Callable[[], object], times: int = TIMES) -> float:
    """Return the median time of a call, in ms."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


def main() -> None:
    """Fill, serve, ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="showmood-bench-") as made:
        directory = Path(made)
        directory.chmod(0o755)
        server = EmbeddedPostgres(
            directory / "pg", open_dir=directory / "open", die_with_owner=True
        )
        with server:
            found = measure(server.url, directory / "home", asked.rows)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(found))


def measure(url: str, home: Path, n_rows: int) -> dict[str, float]:
    """Return the figures, in ms, MB, kB and cores."""
    upgrade(url)
    grant_roles(url)
    engine = make_engine(url)
    for show in shows(engine, n_rows):
        with engine.begin() as connection:
            load(connection, show)
    start = datetime(2026, 11, 20, 19, tzinfo=UTC)
    with engine.begin() as connection:
        channel = ensure_channel(connection, "evening", "http://made")
        evening = open_broadcast(connection, channel_id=channel, started_at=start)
        ensure_partition(connection, start)
    rows = make_show((99,), start=start, seconds=EVENING_S)
    for index, (at, part) in enumerate(
        pieces(rows, start=start, seconds=EVENING_S, segment_s=60.0)
    ):
        segment = SegmentRow(
            channel_id=channel,
            broadcast_id=evening,
            sequence=index,
            started_at=at,
            duration_s=60.0,
        )
        replace_segment(engine, segment, part)
    with engine.begin() as connection:
        end = start + timedelta(seconds=EVENING_S)
        close_broadcast(connection, evening, ended_at=end, status="completed")
    home.mkdir(mode=0o700)
    port = free_port()
    settings = Settings(home=home, page_port=port)
    env = os.environ | {"SHOWMOOD_HOME": str(home), "SHOWMOOD_DATABASE_URL": url}
    command = [sys.executable, "-m", "flows.page.serving", "--port", str(port)]
    process = subprocess.Popen(command, env=env)
    try:
        return ask(process, settings, port, evening, start)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        engine.dispose()


def ask(
    process: subprocess.Popen[bytes], settings: Settings, port: int, show: int, start: datetime
) -> dict[str, float]:
    """Send the requests of a browser, and measure the process."""
    root = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=root, trust_env=False, timeout=30) as client:
        access = page_access(settings)
        while True:
            try:
                client.get(access.link(root))
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        hours = [int(start.timestamp()) // 3600 + n for n in range(3)]

        def evening() -> None:
            client.get(f"/show/{show}")
            client.get(f"/data/show/{show}")
            for hour in hours:
                client.get(f"/data/show/{show}/10/{hour}")

        cold = timed(evening, 1)
        warm = timed(evening)
        urls = [f"/data/show/{show}", *(f"/data/show/{show}/10/{hour}" for hour in hours)]
        tags = {url: client.get(url).headers["etag"] for url in urls}

        def known() -> None:
            client.get(f"/show/{show}")
            for url, tag in tags.items():
                client.get(url, headers={"If-None-Match": tag})

        revisited = timed(known)
        year = {
            "channel": "channel-1",
            "emotion": "happiness",
            "above": "0.7",
            "for": "3",
            "since": "2025-01-01",
            "until": "2025-12-31",
        }
        search = timed(lambda: client.get("/search", params=year).raise_for_status())
        tracks = timed(lambda: client.get(f"/data/show/{show}/tracks"))
        faces = int(start.timestamp()) // 30
        clicked = timed(lambda: client.get(f"/data/show/{show}/faces/{faces}"))
        page = client.get(f"/show/{show}").text
        names = {part.split(chr(34))[0] for part in page.split("=" + chr(34))[1:]}
        paths = {name for name in names if name.startswith(("/static/", "/vendor/"))}
        paths |= {
            f"/static/{name}.js"
            for name in (
                [
                    "palette",
                    "boxes",
                    "data",
                    "live",
                    "lanes",
                    "marks",
                    "player",
                    "side",
                    "timeline",
                    "state",
                    "showkeys",
                ]
            )
        }
        n_bytes = sum(
            int(client.get(path).headers.get("content-length", 0)) for path in sorted(paths)
        )
        seen = psutil.Process(process.pid)
        used = seen.cpu_times()
        streams = [client.stream("GET", "/data/live/evening") for _ in range(20)]
        for stream in streams:
            stream.__enter__()
        began = time.monotonic()
        time.sleep(10)
        spent = seen.cpu_times()
        cores = (spent.user + spent.system - used.user - used.system) / (time.monotonic() - began)
        rss_mb = seen.memory_info().rss / 1e6
        for stream in streams:
            stream.__exit__(None, None, None)
    return {
        "evening_cold_ms": cold,
        "evening_warm_ms": warm,
        "evening_known_ms": revisited,
        "tracks_ms": tracks,
        "faces_ms": clicked,
        "search_year_ms": search,
        "first_load_kb": n_bytes / 1e3,
        "twenty_listeners_cores": cores,
        "rss_mb": rss_mb,
    }


if __name__ == "__main__":
    main()
