"""A generated history with a recording whose brightness encodes the second, and its page."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine

from benchmarks.history.made_shows import make_show, pieces
from db.roles import grant_roles
from db.session import make_engine
from db.writing.rows import SegmentRow
from db.writing.writes import (
    close_broadcast,
    ensure_channel,
    open_broadcast,
    record_gap,
    record_segment,
    replace_segment,
)
from flows.auth.access import Access
from flows.auth.gate import known_hosts
from flows.capture.processes import find_ffmpeg
from flows.capture.recorded.journal import to_line
from flows.capture.segment import Gap, Segment
from flows.page.app import gated
from flows.page.media.playback import Playback
from flows.page.reading.database import Reader
from flows.page.reading.live_updates import Hub
from flows.page.routes.context import Context
from flows.page.serving import listen_on
from flows.recordings.finding import folder_of
from flows.settings import Settings

AIR = datetime(2026, 11, 20, 19, 0, tzinfo=UTC)
PIECE_S = 2.0
CLIP_S = 12
DARK, STEP = 20, 9
"""The picture's level at second k is DARK + STEP * k."""

SCRIPT = "<script>alert(1)</script>"
QUOTES = '"><img src=x onerror=alert(1)> \'quoted\' "twice"'


def cut_clip(directory: Path, kind: str) -> list[Path]:
    """Create a clip of CLIP_S whose gray level encodes the second, cut into pieces of PIECE_S."""
    directory.mkdir()
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi"]
    level = f"{DARK}+{STEP}*floor(T)"
    command += ["-i", f"color=black:s=128x72:r=10,format=yuv420p,geq=lum='{level}':cb=128:cr=128"]
    command += ["-f", "lavfi", "-i", "sine=440:sample_rate=48000", "-t", str(CLIP_S)]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-sc_threshold", "0"]
    command += ["-c:a", "aac", "-f", "hls", "-hls_time", str(PIECE_S), "-hls_list_size", "0"]
    command += ["-hls_segment_type", "fmp4" if kind == "mp4" else "mpegts"]
    subprocess.run([*command, str(directory / "all.m3u8")], check=True, stdin=subprocess.DEVNULL)
    lines = (directory / "all.m3u8").read_text().splitlines()
    return [directory / line for line in lines if line and not line.startswith("#")]


@dataclass(frozen=True)
class Made:
    """The history: shows by name, and the recording's segments."""

    url: str
    engine: Engine
    recordings_dir: Path
    show: int
    quoted: int
    segments: list[Segment]
    begin: datetime


def fill(engine: Engine, recordings_dir: Path, clips: Path) -> tuple[int, int, list[Segment]]:
    """Two recorded runs, as TS and then as fMP4, a gap between them; and a show with a bad name."""
    with engine.begin() as connection:
        channel = ensure_channel(connection, "late-night", "https://example.org/late")
        show = open_broadcast(connection, channel_id=channel, started_at=AIR, title="Late Night")
        bad = ensure_channel(connection, SCRIPT, "https://example.org/bad")
        quoted = open_broadcast(connection, channel_id=bad, started_at=AIR, title=QUOTES)
        close_broadcast(connection, quoted, ended_at=AIR + timedelta(minutes=1), status="completed")
        for week in range(1, 4):
            number = open_broadcast(
                connection,
                channel_id=channel,
                started_at=AIR - timedelta(weeks=week),
                title="Older",
            )
            end = AIR - timedelta(weeks=week) + timedelta(minutes=2)
            close_broadcast(connection, number, ended_at=end, status="completed")
    for week in range(1, 4):
        _rows(engine, channel, show + week + 1, AIR - timedelta(weeks=week), 120, [])
    folder = folder_of(recordings_dir, "late-night", AIR, show)
    folder.mkdir(parents=True)
    segments: list[Segment] = []
    for run, kind in enumerate(("ts", "mp4")):
        begin = AIR + timedelta(seconds=run * (CLIP_S + 6))
        init = b"" if kind == "ts" else (clips / kind / "init.mp4").read_bytes()
        for index, file in enumerate(cut_clip(clips / kind, kind) if run == 0 else _cut(clips)):
            path = folder / f"{run + 1:04d}-20261120T190000Z-{index:06d}.{kind}"
            path.write_bytes(init + file.read_bytes())
            segments.append(
                Segment(
                    channel="late-night",
                    broadcast=show,
                    sequence=len(segments),
                    start=begin + timedelta(seconds=index * PIECE_S),
                    start_is_estimated=False,
                    duration_s=PIECE_S,
                    path=path,
                    width_px=128,
                    height_px=72,
                    continuous=index > 0,
                )
            )
    gap = Gap(
        start=AIR + timedelta(seconds=CLIP_S),
        end=AIR + timedelta(seconds=CLIP_S + 6),
        why="the source answered 503",
    )
    events = sorted([*segments, gap], key=lambda event: event.start)
    (folder / "events.jsonl").write_text("".join(f"{to_line(event)}\n" for event in events))
    with engine.begin() as connection:
        record_gap(
            connection,
            channel_id=channel,
            broadcast_id=show,
            started_at=gap.start,
            ended_at=gap.end,
            why=gap.why,
        )
    _rows(engine, channel, show, AIR, 2 * CLIP_S + 6, segments)
    with engine.begin() as connection:
        end = AIR + timedelta(seconds=2 * CLIP_S + 6)
        close_broadcast(connection, show, ended_at=end, status="completed")
    return show, quoted, segments


def _cut(clips: Path) -> list[Path]:
    return sorted(
        (clips / "mp4").glob("*.m4s"), key=lambda path: int(path.stem.removeprefix("all"))
    )


def _rows(
    engine: Engine,
    channel: int,
    show: int,
    start: datetime,
    seconds: float,
    segments: list[Segment],
) -> None:
    """Store a generated show, with boxes inside the picture; by segments, or as one."""
    rows = make_show((show,), start=start, seconds=seconds)
    rows.boxes[:] = rows.boxes / 10
    piece_s = PIECE_S if segments else seconds
    known = {segment.start: segment for segment in segments}
    for index, (at, part) in enumerate(
        pieces(rows, start=start, seconds=seconds, segment_s=piece_s)
    ):
        segment = known.get(at)
        if segments and segment is None:
            continue
        row = SegmentRow(
            channel_id=channel,
            broadcast_id=show,
            sequence=segment.sequence if segment else index,
            started_at=at,
            duration_s=piece_s,
            path=str(segment.path) if segment else None,
            width_px=128,
            height_px=72,
            frames_analysed=round(piece_s * 5),
            analysed_fps=5.0,
        )
        with engine.begin() as connection:
            record_segment(connection, row)
        replace_segment(engine, row, part)


@dataclass
class Served:
    """The page, and a browser's session with it."""

    root: str
    link: str
    client: httpx.Client
    made: Made
    context: Context
    reader: Reader


@pytest.fixture(scope="session")
def made(databases, tmp_path_factory) -> Iterator[Made]:
    name = databases.create(template="migrated")
    engine = make_engine(databases.url(name))
    grant_roles(databases.url(name))
    home = tmp_path_factory.mktemp("page")
    cut_clip(home / "mp4", "mp4")
    show, quoted, segments = fill(engine, home / "recordings", home)
    yield Made(databases.url(name), engine, home / "recordings", show, quoted, segments, AIR)
    engine.dispose()
    databases.drop(name)


@pytest.fixture(scope="session")
def page(made: Made) -> Iterator[Served]:
    reader = Reader(made.url, timeout_s=40)
    context = Context(
        reader=reader,
        playback=Playback(made.recordings_dir),
        hub=Hub(lambda: reader, most=40, poll_s=0.1),
        prefect_url="http://127.0.0.1:4200",
    )
    listening = listen_on("127.0.0.1", 0)
    port = listening.getsockname()[1]
    access = Access(secret="s" * 40).apart("page")
    app = gated(context, access=access, hosts=known_hosts(port), port=port)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    root = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=root, trust_env=False, timeout=60) as client:
        client.get(access.link(root))
        yield Served(root, access.link(root), client, made, context, reader)
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def growing(made: Made) -> Iterator[Callable[..., Any]]:
    """Creates shows on air (`Growing`); deletes them after the test."""
    from tests.flows.page.growing import Growing

    shows: list[Growing] = []

    def make(slug: str, files: list[Path]) -> Growing:
        shows.append(Growing(made, slug, files))
        return shows[-1]

    yield make
    for show in shows:
        show.forget()


@pytest.fixture
def settings_at(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)
