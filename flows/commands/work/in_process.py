"""Watches and analyses in the command's own process."""

import logging
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from db.session import make_engine
from emotion.media.video import probe
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.plain import plain
from flows.commands.work.json_lines import lines_of
from flows.commands.work.progress import WatchLine, progress_of
from flows.errors import UsageError
from flows.live.broadcast import Watch
from flows.live.rows import file_analysis as replay
from flows.live.rows.analysis import networks
from flows.settings import Settings
from flows.show import make_show, parse_time
from flows.stack.processes.home import keep_private, make_home
from flows.stack.processes.postgres import database


def watch_here(
    settings: Settings,
    *,
    emotion_model: str | None = None,
    quiet: bool = False,
    **parameters: object,
) -> None:
    """Watch a live stream in this process, without Prefect.

    Ctrl-C and SIGTERM end it early, with exit code 130, after the recorded segments are stored.
    """
    settings, chosen = settings.choosing(emotion_model)
    parameters["emotion_model"] = chosen
    show = make_show(**{name: value for name, value in parameters.items() if value is not None})
    make_home(settings.home, embedded=settings.database_url is None)
    keep_private()
    logger = logging.getLogger("showmood")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        url = database(settings, stack)
        shown = WatchLine(quiet=quiet)
        watch = Watch(
            show=show,
            settings=settings,
            database_url=url,
            log=logger,
            observer=shown,
            secret_of=_secret_of,
        )
        try:
            with shown.shown():
                counts = watch.run()
        except KeyboardInterrupt:
            logger.info("stopped early; the recorded segments are stored: %s", shown.line())
            sys.exit(130)
    logger.info("done: %s", counts.summary())
    logger.info("for a report: showmood report %s", show.slug)


def _secret_of(name: str) -> str:
    from flows.control.client.secrets import secret_of  # imported here: Prefect takes seconds

    return secret_of(name)


def analyse_here(
    settings: Settings,
    file: Path,
    *,
    start: str | None,
    name: str | None,
    json_lines: bool,
    fps: float,
    detector: str | None,
    emotion_model: str | None,
    smoothing: replay.Smoothing = "centred",
    quiet: bool = False,
) -> None:
    """Analyse a recorded file into the database, or as JSON lines to stdout."""
    if not file.is_file():
        gone = file.absolute().is_relative_to(settings.recordings_dir)
        why = "the recording was deleted (SHOWMOOD_KEEP_RECORDINGS_...)" if gone else "no such file"
        raise UsageError(f"{file}: {why}")
    began = _start_of(file, start)
    settings, emotion_model = settings.choosing(emotion_model)
    analyser = networks(
        detector or DEFAULT_DETECTOR,
        settings.emotion_network(emotion_model or DEFAULT_EMOTION_MODEL),
        settings.device,
        settings.cache_dir,
        settings.detection_size_px,
        settings.search_everywhere,
    )
    channel = name or replay.slug_of_file(file)
    with ExitStack() as stack:
        on_progress = stack.enter_context(progress_of(channel, probe(file).duration_s, quiet=quiet))
        if json_lines:
            pieces = replay.observe(
                file,
                start=began,
                channel=channel,
                analyser=analyser,
                fps=fps,
                smoothing=smoothing,
                on_progress=on_progress,
            )
            for piece in pieces:
                lines = lines_of(
                    piece,
                    began=began.at,
                    show=plain(file.name),
                    model=analyser.model,
                    smoothing=smoothing,
                    fps=fps,
                )
                sys.stdout.writelines(f"{line}\n" for line in lines)
            return
        engine = make_engine(database(settings, stack))
        stack.callback(engine.dispose)
        stored = replay.store_file(
            engine,
            file,
            start=began,
            channel=channel,
            analyser=analyser,
            fps=fps,
            smoothing=smoothing,
            on_progress=on_progress,
        )
    logging.getLogger("showmood").info("%s: %s", channel, stored.summary())


def _start_of(file: Path, given: str | None) -> replay.Start:
    """Return a file's start, as given or from the file; raises UsageError for the future."""
    now = datetime.now(UTC)
    if given is None:
        return replay.start_of(file, now)
    start = replay.Start(at=parse_time(given), is_estimated=False)
    end = start.at + timedelta(seconds=probe(file).duration_s)
    if end > now:
        raise UsageError(
            f"--start {given}: the file would end at {end:%Y-%m-%d %H:%M:%S} UTC, later than now"
        )
    return start
