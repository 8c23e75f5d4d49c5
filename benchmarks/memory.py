"""Memory of a watcher over a long show: thousands of segments, as fast as possible.

python -m db.embedded.throwaway python -m benchmarks.memory [SEGMENTS]

The real networks, a real Postgres, the events and the report of a show, without waiting for a live
source. A segment is a second of a generated clip, of which one frame is analysed.
"""

import itertools
import logging
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psutil

from db.session import make_engine, upgrade
from db.writing.spool import Spool
from db.writing.writes import ensure_channel, open_broadcast
from emotion.pipeline import Linker
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.alerts import Alert
from flows.capture.segment import Segment
from flows.control.events import EventObserver
from flows.demo.pieces import cut
from flows.demo.programme import make_programme
from flows.live.rows.analysis import Analysis, networks
from flows.live.rows.store import Store
from flows.report.text import markdown

SEGMENTS: Final = 5000
SEGMENT_S: Final = 1.0
REPORT_EVERY: Final = 500
MAX_SIDE_PX: Final = 192
"""Small, because accuracy does not matter here."""


def main(n_segments: int) -> None:
    """Print the memory of this process early and late."""
    log = logging.getLogger("benchmarks.memory")
    work = Path(tempfile.mkdtemp(prefix="showmood-"))
    url = os.environ["SHOWMOOD_DATABASE_URL"]
    upgrade(url)
    engine = make_engine(url)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=n_segments * SEGMENT_S)
    with engine.begin() as connection:
        channel_id = ensure_channel(connection, "memory", "http://127.0.0.1/live.m3u8")
        broadcast_id = open_broadcast(
            connection,
            channel_id=channel_id,
            started_at=start,
            planned_end=datetime.now(UTC),
            source_id="memory",
            title="memory",
            flow_run_id=None,
        )
    analyser = networks(DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL, "cpu", None, MAX_SIDE_PX)
    analysis = Analysis(
        analyser=analyser,
        linker=Linker(),
        store=Store(
            engine=engine,
            channel_id=channel_id,
            broadcast_id=broadcast_id,
            model=analyser.model,
            spool=Spool(work / "waiting"),
        ),
        fps=1.0,
        log=log,
        observer=EventObserver(
            channel="memory",
            url="http://127.0.0.1/live.m3u8",
            alerts=(Alert.model_validate({"emotion": "happiness", "above": 0.5}),),
            gap_s=10,
            behind_s=1e9,
            log=log,
            emit=lambda event, resource, payload: None,
        ),
    )
    programme = make_programme(work / "programme.mp4", duration_s=12)
    paths = [piece.path for piece in cut(programme, work, segment_s=SEGMENT_S)]
    process = psutil.Process()
    memory: list[float] = []
    for number, path in zip(range(n_segments), itertools.cycle(paths), strict=False):
        at = start + timedelta(seconds=number * SEGMENT_S)
        analysis.take(
            Segment(
                channel="memory",
                broadcast=broadcast_id,
                sequence=number,
                start=at,
                start_is_estimated=False,
                duration_s=SEGMENT_S,
                path=path,
                width_px=640,
                height_px=360,
            )
        )
        if number % REPORT_EVERY == REPORT_EVERY - 1:
            with engine.connect() as connection:
                markdown(connection, "memory", start, status="live")
        if number % 50 == 49:
            memory.append(process.memory_full_info().uss / 1e6)
    tenth = max(1, len(memory) // 10)
    early = sum(memory[tenth : 2 * tenth]) / tenth  # all is loaded, and a report was drawn
    late = sum(memory[-tenth:]) / tenth
    print(
        f"memory of a watcher over {n_segments} segments, {analysis.counts.observations} faces, "
        f"{analysis.counts.failed} failed: {early:.0f} MB early, {late:.0f} MB late "
        f"({late / early - 1:+.1%}), at most {max(memory):.0f} MB",
        flush=True,
    )
    engine.dispose()
    shutil.rmtree(work)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEGMENTS)
