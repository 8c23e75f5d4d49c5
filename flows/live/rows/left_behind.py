"""Stores rows that a channel's earlier watchers could not write, or died before writing."""

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
"""How long after its end a broadcast closed by another machine is checked for our segments."""


def write_left_behind(engine: Engine, directory: Path, machine: str | None = None) -> int:
    """Store what dead watchers of this channel left, oldest broadcast first; return the counts.

    directory: of the channel's recordings, on the disk of `machine`. Call it with the channel's
    lock held, so that a live broadcast has no writer. A file without a row gets one, to be analysed
    when the broadcast is continued or by a replay; a broadcast past its planned end is closed.
    Folders of another database's broadcasts are left alone, as their ids differ. Raises one of
    db.writing.spool.PASSING if the database is away.
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
            _log.warning("%s is of a broadcast that is not in this database: left as it is", path)
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
    """Store rows for recorded segments and gaps without one; return how many."""
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
            pass  # adds finished segments that were not reported
        left = store.left(folder)
        n_segments = store.leave(left)
    except PASSING:
        raise
    except (CaptureError, OSError, ValueError, KeyError, TypeError) as e:
        _log.error("no rows for the recordings in %s: %s", folder, e)
        return 0
    if n_segments:
        _log.warning("%d segments in %s are recorded, not analysed", n_segments, folder)
    return len(left)


def _ask(engine: Engine, question: Callable[[Connection], T]) -> T:
    """Return a query's result; raises one of PASSING if the database does not answer."""
    found: list[T] = []
    commit(engine, lambda connection: found.append(question(connection)))
    return found[0]


def _known(engine: Engine, folder: Path) -> RecordedBroadcast | None:
    """Return a folder's broadcast; None if it is not in this database."""
    number = broadcast_of(folder)
    if number is None:
        return None
    row = _ask(engine, lambda asked: broadcasts(asked, [number])).get(number)
    if row is None or folder_of(folder.parent.parent, row.slug, row.started_at, row.id) != folder:
        return None
    return row


def set_aside(recordings_dir: Path) -> list[Path]:
    """Return the files of writes, of all channels, that can't be applied and were set aside."""
    return [
        file
        for path in sorted(recordings_dir.glob(f"*/*/{WAITING}"))
        for file in Spool(path).set_aside()
    ]
