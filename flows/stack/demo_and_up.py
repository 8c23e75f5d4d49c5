"""`showmood demo` and `showmood up`: run the embedded stack in a terminal."""

import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseUnreachable, UnknownChannel
from db.reading.newest import newest
from db.session import make_engine
from flows.control.client.api import FINAL, prefect_file
from flows.demo.channel import LiveOrigin
from flows.demo.programme import make_programme
from flows.errors import ShowFailed, UsageError
from flows.live.way_to_source import read_sources
from flows.report.text import print_report, save_timeline
from flows.settings import Settings
from flows.show import parse_duration
from flows.shows.showfile import read_showfile
from flows.stack.processes.home import keep_private, make_home
from flows.stack.stack import Stack, free_port
from flows.stack.workers.worker import fetch_weights

DEMO: Final = "demo"
REFRESH_S: Final = 0.5
LOG_EVERY_S: Final = 5.0


def own_command() -> str:
    """Return what to type for `showmood`: its name where PATH leads to it, else its path."""
    called = Path(sys.argv[0])
    if called.name != "showmood":  # `python -m`
        return "showmood"
    known = shutil.which("showmood")
    if known is not None and Path(known).resolve() == called.resolve():
        return "showmood"
    here = Path.cwd()
    absolute = here / called
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def demo_video(settings: Settings, video: Path | None) -> Path:
    """Return the clip to play, or the built-in programme, which is made the first time.

    Raises UsageError when there is no such clip.
    """
    if video is None:
        video = settings.home / "demo" / "programme.mp4"
        if not video.exists():
            video.parent.mkdir(parents=True, exist_ok=True)
            make_programme(video)
    elif not video.is_file():
        raise UsageError(f"{video}: no such file")
    return video


def demo_port(settings: Settings, *, any_port: bool) -> int:
    """Return the port of the demo channel; raises UsageError where it is in use."""
    variable = None if any_port else "SHOWMOOD_DEMO_PORT"
    return free_port(settings.demo_port, name="the demo channel", variable=variable)


def demo_channel(settings: Settings, video: Path, port: int) -> LiveOrigin:
    """Return what serves a clip as a live channel on loopback, once entered.

    Entering raises flows.demo.errors.DemoError when it is no video.
    """
    return LiveOrigin(video, segment_s=settings.segment_s, port=port, ffmpeg_path=settings.ffmpeg)


def _prepare(settings: Settings, video: Path | None) -> Path:
    """Make the demo's clip and fetch its networks; return the clip."""
    clip = demo_video(settings, video)
    fetch_weights(settings)
    return clip


def run_demo(settings: Settings, *, video: Path | None, duration: str, console: Console) -> None:
    """Run the main job once, as a user would from the UI, and report.

    Raises ShowFailed with the run's own line when it did not complete.
    """
    parse_duration(duration)
    read_showfile(prefect_file())
    make_home(settings.home)
    keep_private()
    began = datetime.now(UTC)
    echo = _Steps(console)
    port = demo_port(settings, any_port=True)
    allow = (f"127.0.0.1:{port}",)
    with ThreadPoolExecutor(1, thread_name_prefix="demo") as aside, ExitStack() as channel:
        # In parallel with the start. A user's clip is checked first: it may be no video.
        making = aside.submit(_prepare, settings, video)
        if video is not None:
            making.result()
        with Stack(settings, echo=echo, any_port=True, allow=allow) as stack:
            origin = channel.enter_context(demo_channel(settings, making.result(), port))
            echo(f"the networks are verified; the demo channel is on air: {origin.url}")
            parameters = {"url": origin.url, "duration": duration}
            run = stack.server.start_run(f"watch-show/{DEMO}", parameters)
            echo(f"the worker has run {run.name}: {stack.ui_url}/runs/flow-run/{run.id}")
            echo(f"to log in, open this first: {stack.link}")
            echo(f"watch it meanwhile: {stack.page_link}")
            engine = make_engine(stack.database_url)
            try:
                _follow(engine, stack, run.id, began, console)
                ended = stack.server.read_run(run.id)
                if ended.state != "COMPLETED":
                    logs = settings.home / "logs"
                    raise ShowFailed(
                        f"the run ended as {ended.state_name}: {ended.message} (logs: {logs})"
                    )
                console.print()
                with engine.connect() as connection:
                    until = datetime.now(UTC)
                    print_report(connection, DEMO, began, until, console)
                    png = settings.home / "demo" / "timeline.png"
                    png.parent.mkdir(parents=True, exist_ok=True)
                    save_timeline(connection, DEMO, began, until, png)
            finally:
                engine.dispose()
    console.print(f"\ntimeline: {png}", soft_wrap=True, markup=False)
    console.print("the rows are kept. To look at them again:")
    for command, what in (
        ("page", "the page: the moment behind each number"),
        ("up", "the Prefect UI, to start and schedule shows"),
        ("db psql", "SQL: SELECT * FROM emotion_newest('demo');"),
    ):
        console.print(f"  {own_command()} {command:<9} {what}", soft_wrap=True)


def run_up(settings: Settings, *, console: Console) -> None:
    """Keep the stack running until SIGINT or SIGTERM, then stop it."""
    read_showfile(prefect_file())
    make_home(settings.home)
    keep_private()
    echo = _Steps(console)
    for mistake in read_sources(settings).mistakes:
        console.print(mistake, soft_wrap=True, highlight=False, markup=False)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    port = demo_port(settings, any_port=False)
    fetch_weights(settings)
    with demo_channel(settings, demo_video(settings, None), port) as origin:
        allow = (origin.base_url.removeprefix("http://"),)
        with Stack(settings, echo=echo, allow=allow) as stack:
            stack.server.set_parameters(f"watch-show/{DEMO}", {"url": origin.url})
            console.print(f"the page: {stack.page_link}", soft_wrap=True)
            console.print(f"Prefect UI: {stack.link}", soft_wrap=True)
            console.print(
                "(as good as a password; showmood link prints it again; Ctrl-C stops all)"
            )
            console.print("SQL: showmood db psql", soft_wrap=True)
            while not stopping.wait(REFRESH_S):
                stack.tend()
            echo("stopping: running shows are cancelled and stored")
    echo("stopped")


class _Steps:
    """Prints each step, with the time since the step before."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = datetime.now(UTC)

    def __call__(self, step: str) -> None:
        now = datetime.now(UTC)
        took_s = (now - self._last).total_seconds()
        self._console.print(f"[dim]{took_s:6.1f} s[/dim]  {escape(step)}", soft_wrap=True)
        self._last = now


def _follow(engine: Engine, stack: Stack, run_id: str, began: datetime, console: Console) -> None:
    """Show progress, from the database, until the run has ended: live, or in a log line by line."""
    printed, due = "", 0.0
    shown = Live(console=console, refresh_per_second=4) if console.is_terminal else nullcontext()
    with shown as live:
        while True:
            run = stack.server.read_run(run_id)
            progress = _progress(engine, run.state_name, began)
            if live is not None:
                live.update(progress)
            elif progress.plain != printed and time.monotonic() >= due:
                console.print(progress, soft_wrap=True)
                printed, due = progress.plain, time.monotonic() + LOG_EVERY_S
            if run.state in FINAL:
                return
            for child in stack.children:
                child.check()
            stack.tend()
            stack.stopping.wait(REFRESH_S)


def _progress(engine: Engine, state: str, began: datetime) -> Text:
    try:
        with engine.connect() as connection:
            now = newest(connection, DEMO)
    except UnknownChannel:
        now = None
    except (DatabaseUnreachable, DBAPIError):
        return Text(f"{state.lower()}; the database is away ...")
    if now is None or now.started_at < began or now.recorded_until is None:
        return Text(f"{state.lower()} ...")
    behind_s = max(0.0, (datetime.now(UTC) - now.recorded_until).total_seconds())
    return Text(
        f"{state.lower()}: {now.segments.get('analysed', 0)} segments, {now.n_observations} faces, "
        f"newest emotion {now.emotion or 'none'}, {behind_s:.1f} s behind the air"
    )
