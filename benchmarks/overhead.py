"""What Prefect costs a show: its start, a segment, the server, and Prefect's database.

python -m benchmarks.overhead [STARTS]

Real runs are started as the UI does, and timed from the request to the first segment asked of a
live channel on this machine. Then all that a 3-hour show says to the server (task runs a minute,
states, progress and report, signs of life) is said in a row, and what that costs is counted.
"""

import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.deploy import FINAL
from flows.settings import Settings
from flows.stack import Stack

HOURS: Final = 3
SEGMENT_S: Final = 2.0
N_SEGMENTS: Final = int(HOURS * 3600 / SEGMENT_S)
REPORT_BYTES: Final = 60_000
"""A report with the picture of a long show."""


def first_segment_s(stack: Stack, origin: LiveOrigin, name: str) -> float:
    """Start a short show; return the seconds until its first segment was requested."""
    n_before = len(origin.requests)
    began = datetime.now(UTC)
    parameters = {"url": origin.url, "name": name, "duration": "4s"}
    run = stack.server.start_run("watch-show/adhoc", parameters)
    found = None
    while found is None:
        stack.stopping.wait(0.02)
        asked = list(origin.requests)[n_before:]
        found = next((request.at for request in asked if "segment" in request.path), None)
    while stack.server.read_run(run.id).state not in FINAL:
        stack.stopping.wait(0.2)
    return (found - began).total_seconds()


def say_a_show() -> None:
    """Say what a 3-hour show says, as a flow run against the server of the environment."""
    from uuid import UUID

    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
    from prefect.runtime import flow_run
    from prefect.states import Completed, Running

    from flows import bulletin, heart
    from flows.healing import ALIVE, BEATS

    took_ms: list[float] = []

    @task(name="analyse-segments", cache_policy=NO_CACHE, persist_result=False)
    def minute() -> object:
        return Completed(message="30 segments, 300 frames, 411 faces, 0.7 s behind")

    @flow(name="overhead", persist_result=False)
    def show() -> None:
        run_id = UUID(flow_run.id)
        with get_client(sync_client=True) as client:
            report = base64.b64encode(os.urandom(REPORT_BYTES * 3 // 4)).decode()
            artifacts = [
                client.create_artifact(
                    ArtifactCreate(type=kind, key=f"{kind}-x", data=data, flow_run_id=run_id)
                ).id
                for kind, data in (("markdown", report), ("progress", 0.0))
            ]
            beat = heart._Heart(run_id, 1.0, __import__("threading").Event())
            n_states = round(60 / bulletin.STATE_EVERY_S)
            n_beats = round(60 / (120 / BEATS))
            for number in range(HOURS * 60):
                before = time.perf_counter()
                minute()
                took_ms.append((time.perf_counter() - before) * 1e3)
                for _ in range(n_states):
                    said = f"live, {number * 30} segments, 0.7 s behind"
                    client.set_flow_run_state(run_id, Running(message=said))
                    client.update_artifact(artifacts[1], ArtifactUpdate(data=number / 1.8))
                client.update_artifact(artifacts[0], ArtifactUpdate(data=report))
                for _ in range(n_beats):
                    beat._beat_once(client, ALIVE)

    before = time.process_time()
    show()
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
    with tempfile.TemporaryDirectory(prefix="showmood-") as name:
        home = Path(name)
        home.chmod(0o755)
        programme = make_programme(home / "programme.mp4")
        settings = Settings(home=home)  # type: ignore[call-arg]
        with LiveOrigin(programme, segment_s=SEGMENT_S) as origin:
            allow = (origin.base_url.removeprefix("http://"),)
            quiet: list[str] = []
            with Stack(settings, say=quiet.append, any_port=True, allow=allow) as stack:
                server = psutil.Process(stack.children[0].process.pid).children(recursive=True)[0]
                took = [first_segment_s(stack, origin, f"start-{n}") for n in range(starts)]
                print(
                    f"trigger to first segment requested, {starts} starts: median "
                    f"{statistics.median(took):.1f} s, {min(took):.1f} to {max(took):.1f} s"
                )
                time.sleep(10)  # until the server has written what came before
                database = home / "prefect"
                before_bytes, before_s = _size(database), sum(server.cpu_times()[:2])
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.overhead", "--say"],
                    env=stack.environment(),
                    check=True,
                )
                time.sleep(15)
                cpu_s = sum(server.cpu_times()[:2]) - before_s
                grown_mb = (_size(database) - before_bytes) / 1e6
                before_s = sum(server.cpu_times()[:2])
                time.sleep(30)
                idle = (sum(server.cpu_times()[:2]) - before_s) / 30
                share = cpu_s / (HOURS * 3600)
                print(
                    f"Prefect's database, a {HOURS}-hour show: {grown_mb:.1f} MB\n"
                    f"CPU of the server: {cpu_s / N_SEGMENTS * 1e3:.2f} ms a segment; of a core "
                    f"{idle:.1%} idle, and {8 * share:.1%} for 8 channels on top"
                )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("prefect.db*"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--say"]:
        say_a_show()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
