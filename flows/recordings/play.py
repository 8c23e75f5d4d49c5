"""Plays a recording from a moment on, also while it is being recorded."""

import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.reading import recordings as rows
from db.reading.recordings import RecordedRow
from flows.capture.recorded.journal import read_events
from flows.capture.recorded.playback_playlists import write_playlist
from flows.capture.segment import Segment
from flows.errors import UsageError
from flows.objects.cache import Copies
from flows.recordings.finding import find, folder_of, is_on_air, local_time, nothing_recorded
from flows.recordings.segment_audio import bring_audio
from flows.show import parse_since

_FROM_LIVE: Final = 3
"""Segments before the newest one where a player begins by default."""

NEWEST: Final = timedelta(minutes=1)
"""How long before the newest copy playback of a show on air elsewhere begins."""

FROM_STORE: Final = timedelta(hours=1)
"""How much of a recording is fetched from the object store for playback."""

_OPENERS: Final = ("mpv", "vlc", "ffplay", "xdg-open", "open")
_FROM_FIRST: Final = {
    "mpv": ["--demuxer-lavf-o=live_start_index=0"],
    "ffplay": ["-live_start_index", "0"],
}
"""Players that always begin at the live edge, with the options against that."""


def playlist_at(
    engine: Engine,
    channel: str,
    at: datetime | None,
    *,
    recordings_dir: Path,
    machine: str | None = None,
    copies: Copies | None = None,
) -> tuple[Path, datetime]:
    """Write a playlist that starts at a moment; return its path, and when it really starts.

    at: aware; None: where a broadcast on air is just now, or the beginning of the newest one that
    is over. While the broadcast is recorded, new segments are appended to the playlist.

    Raises UsageError, which names the nearest recordings, when nothing was recorded then;
    UnknownChannel; OSError.
    """
    if at is None:
        folder, on_air, began, last = _newest(engine, channel, recordings_dir)
        there = _on_disk(folder)
        if not there and last is not None and copies is not None:
            since = last.ended_at - NEWEST if on_air else began - NEWEST
            at = _first_copied(engine, channel, since, last, copies, recordings_dir)
            if at is not None:
                number = last.broadcast_id
                return _from_store(engine, channel, at, copies, number, recordings_dir), at
        on = last.machine if last is not None else None
        if not there and on not in (None, machine):
            raise UsageError(f"{channel}: the newest recording is on {on}: play it there")
        if not there:
            raise UsageError(f"{channel}: no recording is left")
        segments = there[-_FROM_LIVE:] if on_air else there
        at = segments[0].start
    else:
        found = find(
            engine,
            channel,
            at,
            at + timedelta(milliseconds=1),
            recordings_dir=recordings_dir,
            machine=machine,
            copies=copies,
        )
        if not found.segments:
            raise nothing_recorded(engine, channel, at, at, found)
        first = found.segments[0]
        folder = first.path.parent
        if copies is not None and first.path.is_relative_to(copies.directory):
            return _from_store(engine, channel, at, copies, first.broadcast, recordings_dir), at
        segments = [each for each in _on_disk(folder) if each.start >= first.start] or [first]
        with engine.connect() as connection:
            broadcast = rows.broadcasts(connection, [first.broadcast]).get(first.broadcast)
            on_air = broadcast is not None and is_on_air(connection, broadcast)
    return write_playlist(folder, segments, at=at, ended=not on_air), at


def _first_copied(
    engine: Engine,
    channel: str,
    since: datetime,
    last: RecordedRow,
    copies: Copies,
    recordings_dir: Path,
) -> datetime | None:
    """Return where the copies of a broadcast that ends with `last` begin, from a time on."""
    found = find(
        engine, channel, since, last.ended_at, recordings_dir=recordings_dir, copies=copies
    )
    return next(
        (
            each.start
            for each in found.segments
            if each.broadcast == last.broadcast_id and each.path.is_relative_to(copies.directory)
        ),
        None,
    )


def _from_store(
    engine: Engine,
    channel: str,
    at: datetime,
    copies: Copies,
    broadcast: int,
    recordings_dir: Path,
) -> Path:
    """Fetch what follows a moment of a broadcast, and write a playlist of it."""
    end = at + FROM_STORE
    found = find(engine, channel, at, end, recordings_dir=recordings_dir, copies=copies)
    segments = [each for each in found.segments if each.broadcast == broadcast]
    for each in segments:
        copies.bring(each.path, each.needs)
    bring_audio(copies, segments)
    of_copies = [each for each in segments if each.path.parent == segments[0].path.parent]
    return write_playlist(segments[0].path.parent, of_copies, at=at, ended=True)


def open_player(playlist: Path, player: str | None) -> None:
    """Play it with this command, or the first player there is. Raises UsageError for none."""
    if player is None:
        player = next((each for each in _OPENERS if shutil.which(each)), None)
        if player is None:
            raise UsageError(f"no player was found: name one with --player, or open {playlist}")
    command = shlex.split(player)
    found = shutil.which(command[0]) if command else None
    if found is None:
        raise UsageError(f"there is no player {player!r}")
    options = _FROM_FIRST.get(os.path.basename(found), [])
    done = subprocess.run([found, *command[1:], *options, str(playlist)], check=False)
    if done.returncode:
        sys.exit(1)


def _newest(
    engine: Engine, channel: str, recordings_dir: Path
) -> tuple[Path, bool, datetime, RecordedRow | None]:
    """Return a channel's newest broadcast: its folder, whether it is on air, its begin, its end."""
    with engine.connect() as connection:
        broadcast = rows.newest_broadcast(connection, channel)
        if broadcast is None:
            raise UsageError(f"{channel}: no recording is left")
        on_air = is_on_air(connection, broadcast)
        last = rows.last_of(connection, broadcast.id)
    directory = recordings_dir.resolve()
    folder = folder_of(directory, channel, broadcast.started_at, broadcast.id)
    return folder, on_air, broadcast.started_at, last


def _on_disk(folder: Path) -> list[Segment]:
    events = read_events(folder)
    return [each for each in events if isinstance(each, Segment) and each.path.exists()]


def parse_moment(text: str) -> datetime:
    """Return the aware time of "20:15" (local, its last), "10m" (ago) or an ISO time.

    Raises UsageError for anything else.
    """
    now = datetime.now().astimezone()
    for form in ("%H:%M", "%H:%M:%S"):
        try:
            clock = datetime.strptime(text.strip(), form).time()  # noqa: DTZ007 - combined with today
        except ValueError:
            continue
        moment = datetime.combine(now.date(), clock).astimezone()
        if moment > now:
            moment = datetime.combine(now.date() - timedelta(days=1), clock).astimezone()
        return moment.astimezone(UTC)
    return parse_since(text)


def start_text(at: datetime) -> str:
    """Return the text for where playback starts."""
    return f"from {local_time(at)}"
