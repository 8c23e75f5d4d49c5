"""The flow analyse-recording, and `showmood replay`: analyse part of a recording again."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field
from sqlalchemy import Engine

from db.errors import ChannelBusy
from db.reading import queries
from db.session import make_engine, require_current
from db.writing.tracks import last_number
from emotion.pipeline import Analyser, Linker
from emotion.types import EmotionError
from emotion.weights.store import DEFAULT_DETECTOR, DEFAULT_EMOTION_MODEL
from flows.capture.segment import Segment
from flows.errors import EXPECTED, UsageError
from flows.forwarding import forward_run, machines_with_files, was_forwarded
from flows.live.locking.broadcast_turn import turn_to_analyse
from flows.live.locking.local_lock import hold_channel
from flows.live.rows.analysis import Counts, frames_from, longest_of, networks
from flows.live.rows.file_analysis import CENTRED, Piece, centred_pieces
from flows.live.rows.left_behind import write_left_behind
from flows.live.rows.store import Store
from flows.objects.cache import Copies
from flows.objects.configured import copies_of
from flows.objects.errors import StoreError
from flows.recordings.finding import find, nothing_recorded
from flows.settings import Settings, load_settings, running_database
from flows.show import (
    AnalysedFps,
    DetectorName,
    EmotionModelName,
    Slug,
    parse_since,
    parse_until,
    titled,
)
from flows.stack.processes.home import keep_private, make_home

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
OnProgress = Callable[[float], None]
"""Called with the percentage done, 0 to 100."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reanalysis:
    """What to analyse again, and how: a channel in [begin, end)."""

    channel: str
    begin: datetime
    end: datetime
    fps: float
    detector: str
    emotion_model: str


def reanalyse_range(
    settings: Settings,
    database_url: str,
    what: Reanalysis,
    *,
    log: Log,
    on_progress: OnProgress,
    holder: str,
    waits: bool = False,
) -> Counts:
    """Analyse the recording of [begin, end), and replace its rows, segment by segment.

    Tracks continue from the segment before; new tracks get numbers that are free in the broadcast.
    Smoothing uses past and future frames. Segments whose file was deleted keep their rows. Holds
    the lock of each broadcast, and the channel's where one is on air: several parts of a channel
    may be analysed at once. waits: wait for other processes that analyse the same broadcasts.

    Raises UsageError when no recorded file is left, ChannelBusy, UnknownChannel.
    """
    if what.begin >= what.end:
        raise UsageError(f"{what.begin:%H:%M:%S} is not before {what.end:%H:%M:%S}: nothing to do")
    engine = make_engine(database_url)
    try:
        require_current(engine)
        directory = settings.recordings_dir
        copies = copies_of(settings)
        with suppress(ChannelBusy), hold_channel(engine, directory, what.channel, holder):
            # Written later, these older rows would replace the new ones.
            write_left_behind(engine, directory / what.channel, settings.machine_name)
        stretch, wait = (what.channel, what.begin, what.end), log if waits else None
        with turn_to_analyse(engine, directory, *stretch, holder=holder, log=wait):
            found = find(
                engine,
                *stretch,
                recordings_dir=directory,
                machine=settings.machine_name,
                copies=copies,
            )
            if not found.segments:
                raise nothing_recorded(engine, *stretch, found)
            for name in found.on:
                log.warning("segments on %s keep their rows here, and are analysed there", name)
            if found.gone:
                log.warning("%d segments have no file any more; they keep their rows", found.gone)
            analyser = networks(
                what.detector,
                what.emotion_model,
                settings.device,
                settings.cache_dir,
                settings.detection_size_px,
                settings.search_everywhere,
            )
            return _analyse(
                engine,
                settings,
                what,
                found.segments,
                analyser,
                copies,
                log=log,
                on_progress=on_progress,
            )
    finally:
        engine.dispose()


def _analyse(
    engine: Engine,
    settings: Settings,
    what: Reanalysis,
    segments: Sequence[Segment],
    analyser: Analyser,
    copies: Copies | None,
    *,
    log: Log,
    on_progress: OnProgress,
) -> Counts:
    counts, n_done, reported = Counts(), 0, -1.0
    with engine.connect() as connection:
        channel_id = queries.channel_id(connection, what.channel)
    for broadcast, of in groupby(segments, key=lambda segment: segment.broadcast):
        mine = list(of)
        with engine.connect() as connection:
            state = queries.tracker_state_before(connection, broadcast, mine[0].start)
            spans = [(segment.start, segment.end) for segment in mine]
            taken = last_number(connection, broadcast, spans)
        model = analyser.model + CENTRED
        store = Store(
            engine=engine,
            channel_id=channel_id,
            broadcast_id=broadcast,
            model=model,
            machine=settings.machine_name,
            copies_dir=settings.copies_dir,
        )
        # Not from the state's number: tracks after this part have numbers too.
        linker = Linker(state, number_from=taken + 1)
        pieces = _pieces(mine, analyser, copies, linker, what.fps, store, counts, log)
        for piece in centred_pieces(pieces):
            store.analysed(
                piece.segment,
                piece.observations,
                frames=piece.n_frames,
                fps=what.fps,
                tracker_state=piece.tracker_state,
            )
            n_faces = len(piece.observations)
            counts.add(segments=1, frames=piece.n_frames, observations=n_faces)
            n_done += 1
            share = round(100 * n_done / len(segments), 1)
            if share - reported >= 1 or n_done == len(segments):
                on_progress(share)
                reported = share
    return counts


def _pieces(
    segments: Sequence[Segment],
    analyser: Analyser,
    copies: Copies | None,
    linker: Linker,
    fps: float,
    store: Store,
    counts: Counts,
    log: Log,
) -> Iterator[Piece]:
    for segment in segments:
        try:
            if copies is not None:
                copies.bring(segment.path, segment.needs)
            longest_s = longest_of(segment)
            begun = analyser.decode(segment.path, fps=fps, longest_s=longest_s, lead=segment.lead)
            with closing(begun) as parts:
                detections = analyser.analyse_parts(
                    frames_from(part, segment.offset_s) for part in parts
                )
        except StoreError as e:
            counts.failed += 1
            log.warning("segment at %s keeps its rows: %s", segment.start, e)
            continue
        except (EmotionError, OSError) as e:
            store.failed(segment, str(e))
            counts.failed += 1
            log.warning("segment at %s not analysed: %s", segment.start, e)
            continue
        yield Piece(
            segment=segment,
            n_frames=len(detections.offset_s),
            observations=linker.update(detections, segment.start),
            tracker_state=linker.state,
        )


@flow(
    name="analyse-recording",
    flow_run_name="{channel} from {start} by {emotion_model}",
    persist_result=False,
)
def analyse_recording(
    channel: Annotated[Slug, titled("Channel's name")],
    start: Annotated[str, Field(examples=["2026-11-22T20:00:00+01:00", "2h"]), titled("From")],
    end: Annotated[str, Field(examples=["2026-11-22T20:15:00+01:00", "1h"]), titled("Until")] = "",
    analysed_fps: AnalysedFps = 5.0,
    detector: Annotated[DetectorName, titled("Detector")] = DEFAULT_DETECTOR,
    emotion_model: Annotated[EmotionModelName, titled("Emotion net")] = DEFAULT_EMOTION_MODEL,
) -> State:
    """Analyse part of a channel's recording again, and replace its rows.

    Args:
        channel: The channel's name in the database.
        start: The beginning: a time, or how long ago it was, as 2h.
        end: The end: a time, or how long ago it was; now if left out.
        analysed_fps: Frames analysed for each second of show.
        detector: The network that finds faces.
        emotion_model: The network that reads expressions.
    """
    log = get_run_logger()
    try:
        settings = load_settings()
        make_home(settings.home, embedded=False)
        keep_private()
        what = Reanalysis(
            channel=channel,
            begin=parse_since(start),
            end=parse_until(end),
            fps=analysed_fps,
            detector=detector,
            emotion_model=emotion_model,
        )
        url = running_database(settings)
        others, has_some = _where(settings, url, what)
        stretch = {"start": what.begin.isoformat(), "end": what.end.isoformat()}
        if others and not has_some:
            return Completed(name="HandedOn", message="; ".join(forward_run(others, stretch)))
        progress = create_progress_artifact(
            0.0, key=f"replay-{channel}", description=f"{channel} again, by {emotion_model}"
        )
        counts = reanalyse_range(
            settings,
            url,
            what,
            log=log,
            on_progress=lambda share: _update(progress, share, log),
            holder=str(flow_run.id),
            waits=True,
        )
        # Only now: one run at a time may analyse a broadcast.
        lines = forward_run(others, stretch) if others else []
    except EXPECTED as e:
        log.error("%s", e)
        return Failed(message=str(e))
    return Completed(message="; ".join([counts.summary(), *lines]))


def _where(settings: Settings, database_url: str, what: Reanalysis) -> tuple[tuple[str, ...], bool]:
    """Return the machines to forward to, and whether this machine has files itself."""
    if was_forwarded():
        return (), True
    engine = make_engine(database_url)
    try:
        return machines_with_files(engine, settings, what.channel, what.begin, what.end)
    finally:
        engine.dispose()


def _update(progress: object, share: float, log: Log) -> None:
    try:
        update_progress_artifact(progress, share)  # type: ignore[arg-type]  # its stub is async's
    except Exception as e:  # noqa: BLE001 - the analysis is worth more than its progress bar
        log.warning("the progress could not be shown in the UI: %r", e)
