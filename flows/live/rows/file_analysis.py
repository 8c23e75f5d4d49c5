"""Analyses media files into observations, and stores them as a broadcast."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Engine

from db.writing import imports, writes
from emotion.ahead import Prefetcher
from emotion.linking.smooth import LOOK_S, centred
from emotion.media.video import Truncated, probe, read_windows
from emotion.pipeline import Analyser, Linker
from emotion.types import Observations
from flows.capture.plain import plain
from flows.capture.segment import Segment
from flows.errors import UsageError
from flows.live.rows.analysis import Counts
from flows.live.rows.store import Store

_log = logging.getLogger(__name__)

WINDOW_S: Final = 2.0

Smoothing = Literal["causal", "centred"]
CENTRED: Final = "+centred"
"""Suffix of a segment's model whose smoothed columns also use future frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A window of a file, analysed and linked."""

    segment: Segment
    n_frames: int
    observations: Observations
    tracker_state: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Time of a file's first frame, aware UTC; estimated if not given."""

    at: datetime
    is_estimated: bool


def start_of(path: Path, now: datetime) -> Start:
    """Return a file's start: by its container, else its length before its modification time.

    now: aware; a container's time by which the file would end later is ignored. Raises
    emotion.types.EmotionError if it is not a video.
    """
    info = probe(path)
    length = timedelta(seconds=info.duration_s)
    if info.creation_time is not None and info.creation_time + length <= now:
        return Start(at=info.creation_time, is_estimated=False)
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Start(at=min(modified, now) - length, is_estimated=True)


def source_of(path: Path) -> str:
    """Return a file's identity: the hash of its content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def slug_of_file(path: Path) -> str:
    """Derive a channel name from a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63].rstrip("-") or "recording"


def observe(
    path: Path,
    *,
    start: Start,
    channel: str,
    analyser: Analyser,
    fps: float,
    smoothing: Smoothing = "centred",
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> Iterator[Piece]:
    """Analyse a file window by window, from its beginning, in bounded memory.

    smoothing: "causal", of past frames only, as live; "centred", of past and future. on_progress:
    called with the analysed seconds of the file. Raises UsageError if there is no such file,
    emotion.types.EmotionError if it is not a video.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    pieces = _linked(
        path,
        start=start,
        channel=channel,
        analyser=analyser,
        fps=fps,
        on_progress=on_progress,
    )
    return centred_pieces(pieces) if smoothing == "centred" else pieces


def centred_pieces(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield each piece, smoothed, once all pieces that its means need are there."""
    look = timedelta(seconds=LOOK_S)
    held: list[Piece] = []
    n_done = 0  # of those held: yielded, but needed by later ones
    for newest in pieces:
        held.append(newest)
        while held[n_done].segment.end + look <= newest.segment.end:
            yield _centred_one(held, n_done)
            n_done += 1
            while held[0].segment.end + look <= held[n_done].segment.start:
                del held[0]
                n_done -= 1
    for at in range(n_done, len(held)):
        yield _centred_one(held, at)


def _centred_one(held: list[Piece], at: int) -> Piece:
    return replace(held[at], observations=centred([piece.observations for piece in held], at))


def _linked(
    path: Path,
    *,
    start: Start,
    channel: str,
    analyser: Analyser,
    fps: float,
    on_progress: Callable[[float], None],
) -> Iterator[Piece]:
    info = probe(path)
    linker = Linker(None)
    with Prefetcher(
        lambda: read_windows(
            path, fps=fps, window_s=WINDOW_S, longest_side_px=analyser.longest_side_px
        ),
        depth=1,
    ) as windows:
        try:
            for sequence, (offset_s, duration_s, frames) in enumerate(windows):
                segment = Segment(
                    channel=channel,
                    broadcast=0,
                    sequence=sequence,
                    start=start.at + timedelta(seconds=offset_s),
                    start_is_estimated=start.is_estimated,
                    duration_s=duration_s,
                    path=path,
                    width_px=info.width_px,
                    height_px=info.height_px,
                    offset_s=offset_s,
                )
                observations = linker.update(analyser.analyse(frames), segment.start)
                on_progress(offset_s + duration_s)
                yield Piece(
                    segment=segment,
                    n_frames=len(frames),
                    observations=observations,
                    tracker_state=linker.state,
                )
        except Truncated as e:
            _log.warning("%s; only the part before that is analysed", e)


def store_file(
    engine: Engine,
    path: Path,
    *,
    start: Start,
    channel: str,
    analyser: Analyser,
    fps: float,
    smoothing: Smoothing = "centred",
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> Counts:
    """Analyse a file into the database, as one broadcast; idempotent.

    A file that the channel has already is replaced as a whole, also with another start time, after
    all of it is analysed: until then, and on an error, the old rows stay. With centred smoothing
    the segments' model ends in `CENTRED`. Raises as `observe`, and db.errors.TimeTaken.
    """
    path = path.absolute()
    source = source_of(path)
    length = timedelta(seconds=probe(path).duration_s)
    with engine.connect() as connection:
        known = imports.imports_of(connection, channel, source, path)
        imports.require_free(connection, channel, start.at, start.at + length, own=known)
    pieces = observe(
        path,
        start=start,
        channel=channel,
        analyser=analyser,
        fps=fps,
        smoothing=smoothing,
        on_progress=on_progress,
    )
    ahead = list(pieces if known else islice(pieces, 1))
    with engine.begin() as connection:
        channel_id, broadcast_id = imports.open_import(
            connection,
            slug=channel,
            path=path,
            source_id=source,
            title=plain(path.name),
            start=start.at,
            end=max(start.at + length, ahead[-1].segment.end),
        )
    model = analyser.model + (CENTRED if smoothing == "centred" else "")
    store = Store(engine=engine, channel_id=channel_id, broadcast_id=broadcast_id, model=model)
    counts = Counts()
    end = start.at
    for piece in chain(ahead, pieces):
        store.analysed(
            piece.segment,
            piece.observations,
            frames=piece.n_frames,
            fps=fps,
            tracker_state=piece.tracker_state,
        )
        counts.add(segments=1, frames=piece.n_frames, observations=len(piece.observations))
        end = piece.segment.end
    with engine.begin() as connection:
        writes.close_broadcast(connection, broadcast_id, ended_at=end, status="completed")
    return counts
