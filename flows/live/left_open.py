"""Closes the broadcasts that dead watchers left open, with what they had recorded."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from db.errors import ChannelBusy, DatabaseError
from db.reading.recordings import RecordedBroadcast, live_broadcasts
from db.session import make_engine
from db.writing.spool import commit
from db.writing.writes import interrupt_broadcast
from flows.live.locking.local_lock import hold_channel
from flows.live.rows.left_behind import write_left_behind
from flows.settings import Settings, running_database

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def close_left_open(
    engine: Engine,
    recordings: Path,
    *,
    machine: str | None,
    run_id: str | None,
    was_cancelled: Callable[[str], bool],
    log: Log,
) -> None:
    """Store what dead watchers of a channel left; close the broadcasts that other runs left open.

    Call it with the channel's lock held, before a broadcast is opened. run_id: the run that is
    about to watch; None: every open broadcast is closed. was_cancelled: returns whether a run was
    cancelled. Raises one of db.writing.spool.PASSING if the database can't be reached.
    """
    write_left_behind(engine, recordings, machine)
    for left in _live(engine, recordings.name):
        if run_id is None or left.flow_run_id != run_id:
            cancelled = left.flow_run_id is not None and was_cancelled(left.flow_run_id)
            _close(engine, left, "cancelled" if cancelled else "interrupted", log)


def end_cancelled(settings: Settings, slug: str, run_id: str, log: Log) -> None:
    """Write what the dead process of a cancelled run left, and close its broadcast as cancelled.

    Nothing is done while another process has the channel's lock: the run's own, which still
    stores, or the next watch, which does the same.
    """
    engine = make_engine(running_database(settings))
    try:
        with hold_channel(engine, settings.recordings_dir, slug, run_id):
            write_left_behind(engine, settings.recordings_dir / slug, settings.machine_name)
            for left in _live(engine, slug):
                if left.flow_run_id == run_id:
                    _close(engine, left, "cancelled", log)
    except ChannelBusy:
        pass
    except DatabaseError as e:
        log.warning("the broadcast stays open until the next watch: %s", e)
    finally:
        engine.dispose()


def _live(engine: Engine, slug: str) -> list[RecordedBroadcast]:
    found: list[RecordedBroadcast] = []
    commit(engine, lambda connection: found.extend(live_broadcasts(connection, slug)))
    return found


def _close(engine: Engine, left: RecordedBroadcast, status: str, log: Log) -> None:
    commit(engine, partial(interrupt_broadcast, broadcast_id=left.id, status=status))
    log.warning("the broadcast of %s was left open: closed as %s", left.started_at, status)
