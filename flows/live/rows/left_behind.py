"""Writes what a channel's watchers left behind when they died or could not write."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from db.reading.queries import channel_id
from db.reading.recordings import RecordedBroadcast, broadcasts, gap_starts, starts, unsure
from db.writing.spool import PASSING, Spool, commit
from db.writing.writes import extend_broadcast, interrupt_broadcast
from flows.capture.recorded.recovery import recover
from flows.capture.segment import CaptureError
from flows.live.rows.store import Store, keys
from flows.recordings.finding import WAITING, broadcast_of, folder_of

T = TypeVar("T")

_log = logging.getLogger(__name__)

LOOKED_FOR: Final = timedelta(days=2)
"""So long after it ended, what a machine has of a broadcast is looked for that another closed."""


def write_left_behind(engine: Engine, directory: Path, machine: str | None = None) -> int:
    """Write what dead watchers of this channel left, oldest broadcast first; return the counts.

    directory: of the channel's recordings, on the disk of `machine`. To be called with the
    channel's lock held: whoever wrote a broadcast that is still called live is gone. What has a
    file and no row becomes a row, to be analysed when the broadcast is gone on with or by a replay;
    one whose time is over is closed. What another database's broadcasts left is let be: their
    numbers are others' here. Raises one of db.writing.spool.PASSING if the database is still away.
    """
    n_writes = 0
    damaged: list[RecordedBroadcast] = []
    late: set[int] = set()
    for path in sorted(directory.glob(f"*/{WAITING}")):
        spool = Spool(path)
        spool.remove_unfinished()
        if not spool.waiting() and not spool.set_aside():
            continue
        if (broadcast := _known(engine, path.parent)) is not None:
            if n_done := spool.write(engine):
                n_writes += n_done
                late.add(broadcast.id)
            damaged += [broadcast] if spool.set_aside() else []
        else:
            _log.warning("%s is of a broadcast that this database does not know: it stays", path)
    now = datetime.now(UTC)
    open_yet = _ask(engine, lambda asked: unsure(asked, directory.name, now - LOOKED_FOR))
    for broadcast in {each.id: each for each in (*damaged, *open_yet)}.values():
        if n_rows := _store_rest(engine, directory, broadcast, machine):
            n_writes += n_rows
            late.add(broadcast.id)
    for broadcast in open_yet:
        over = (broadcast.planned_end or broadcast.started_at) <= now
        if broadcast.status == "live" and over:
            commit(engine, partial(interrupt_broadcast, broadcast_id=broadcast.id))
    for number in sorted(late):
        commit(engine, partial(extend_broadcast, broadcast_id=number))
    return n_writes


def _store_rest(
    engine: Engine, directory: Path, broadcast: RecordedBroadcast, machine: str | None
) -> int:
    """Give a row to what was recorded of a broadcast and has none; return how many."""
    folder = folder_of(directory.parent, broadcast.slug, broadcast.started_at, broadcast.id)
    if not folder.is_dir():
        return 0
    store = Store(
        engine=engine,
        channel_id=_ask(engine, lambda asked: channel_id(asked, broadcast.slug)),
        broadcast_id=broadcast.id,
        model="",
        machine=machine,
        settled=keys(
            _ask(engine, lambda asked: starts(asked, broadcast.id)),
            _ask(engine, lambda asked: gap_starts(asked, broadcast.id)),
        ),
    )
    try:
        for _ in recover(folder, channel=broadcast.slug, broadcast=broadcast.id):
            pass  # what was finished and not reported is now
        left = store.left(folder)
        n_segments = store.leave(left)
    except PASSING:
        raise
    except (CaptureError, OSError, ValueError, KeyError, TypeError) as e:
        _log.error("the recordings in %s get no rows: %s", folder, e)
        return 0
    if n_segments:
        _log.warning("%d segments in %s are recorded, not analysed", n_segments, folder)
    return len(left)


def _ask(engine: Engine, question: Callable[[Connection], T]) -> T:
    """Return what the database says; raises one of PASSING if it does not answer."""
    said: list[T] = []
    commit(engine, lambda connection: said.append(question(connection)))
    return said[0]


def _known(engine: Engine, folder: Path) -> RecordedBroadcast | None:
    """Return the broadcast that a folder is of; None if this database does not know it."""
    number = broadcast_of(folder)
    if number is None:
        return None
    row = _ask(engine, lambda asked: broadcasts(asked, [number])).get(number)
    if row is None or folder_of(folder.parent.parent, row.slug, row.started_at, row.id) != folder:
        return None
    return row


def set_aside(recordings_dir: Path) -> list[Path]:
    """Return the writes of all channels that could not be done, and are left to a person."""
    return [
        file
        for path in sorted(recordings_dir.glob(f"*/*/{WAITING}"))
        for file in Spool(path).set_aside()
    ]
