"""Turns on a channel: one watch at a time.

A run whose channel is being watched waits for the end of that watch, and then watches the rest of
its own planned time; if none is left, it is skipped. A scheduled run does not wait for one without
a schedule: that one ends.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.channel_lock import ChannelLock, channel_lock, holder_of
from db.errors import ChannelBusy
from db.reading import queries
from db.writing.spool import PASSING
from flows.capture.waits import background_thread
from flows.errors import HandedOver, Skipped
from flows.live.locking.database_wait import retry_on_outage
from flows.live.locking.handover_signal import MAY_LEAVE
from flows.live.locking.local_lock import hold_channel

POLL_S: Final = 1.0
POLL_SOON_S: Final = 0.1
"""Seconds between two checks for another process of the same run, which may be handing over."""
_END_S: Final = 1.0
"""Seconds to wait at the end for a database that does not answer."""

LATEST: Final = timedelta(minutes=10)
"""A run that begins later than this after its planned end is skipped: its show is over."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A channel whose lock this process holds. until: end of the watch, if known."""

    lock: ChannelLock
    until: datetime | None


@contextmanager
def channel_turn(
    engine: Engine,
    slug: str,
    holder: str,
    *,
    recordings_dir: Path,
    ends_at: datetime | None,
    log: Log,
    max_wait: timedelta = timedelta(0),
    of_schedule: bool = False,
) -> Iterator[Turn]:
    """Hold a channel, when it is free.

    ends_at: end of the planned time; None: a busy channel is an error at once. max_wait: for a
    database that is away. of_schedule: a holder without a schedule is asked to give way.

    Raises db.errors.ChannelBusy, or Skipped when the planned time was over before it was free.
    """
    if ends_at is not None and datetime.now(UTC) > ends_at + LATEST:
        raise Skipped(f"{slug}: the planned time was over at {ends_at:%Y-%m-%d %H:%M} UTC")
    with ExitStack() as stack, ExitStack() as asking:
        waited = hurries = False
        while True:
            try:
                lock = retry_on_outage(
                    lambda: stack.enter_context(hold_channel(engine, recordings_dir, slug, holder)),
                    engine,
                    max_wait=max_wait,
                    log=log,
                )
                break
            except ChannelBusy as busy:
                if ends_at is None:
                    raise
                who = f"run {busy.holder}" if busy.holder else "another run"
                if datetime.now(UTC) >= ends_at:
                    raise Skipped(
                        f"{slug}: {who} was watching it until the planned end, "
                        f"{ends_at:%H:%M:%S} UTC; no time was left"
                    ) from busy
                if not waited:
                    log.warning("%s is being watched by %s: waiting for its end", slug, who)
                    if of_schedule or busy.holder == holder:
                        with suppress(*PASSING):
                            _ask(asking, engine, slug, holder, watched_by=busy.holder)
                waited = True
                hurries = busy.holder == holder
            time.sleep(POLL_SOON_S if hurries else POLL_S)
        asking.close()
        yield Turn(lock=lock, until=ends_at if waited else None)


def _ask(
    asking: ExitStack, engine: Engine, slug: str, holder: str, *, watched_by: str | None
) -> None:
    """Ask for a channel, unless another run asks already.

    Raises HandedOver where two other processes of this very run have it and ask for it: each time
    that a run is taken for dead and is not, it gets another process.
    """
    try:
        asking.enter_context(channel_lock(engine, _turn_of(slug), holder))
    except ChannelBusy as other:
        if other.holder == watched_by == holder:
            raise HandedOver(
                f"{slug}: another process of this run watches it, and a third waits for its end"
            ) from other


def waiting_run(engine: Engine, slug: str) -> str | None:
    """Return the run that waits for a channel; None if there is none, or the database is away."""
    with suppress(DBAPIError, *PASSING), engine.connect() as connection:
        return holder_of(connection, _turn_of(slug))
    return None


@contextmanager
def giving_way(
    engine: Engine,
    slug: str,
    end: Callable[[], object],
    log: Log,
    *,
    own: str | None,
    of_schedule: bool,
) -> Iterator[threading.Event]:
    """Call `end` once, from a background thread, when a run with priority waits for the channel.

    A scheduled run has priority over one without a schedule. Another process of this run, `own`,
    has priority when this process may leave; then the yielded event is set.
    """
    over, handed = threading.Event(), threading.Event()

    def look() -> None:
        while not over.wait(POLL_SOON_S if MAY_LEAVE.is_set() else POLL_S):
            if of_schedule and not MAY_LEAVE.is_set():
                continue
            run = waiting_run(engine, slug)
            if run is not None and run == own and MAY_LEAVE.is_set():
                log.warning("%s is handed over: another worker continues it", slug)
                handed.set()
            elif run is None or run == own or of_schedule:
                continue
            else:
                log.warning("%s: the scheduled run %s has its turn; this one ends", slug, run)
            end()
            return

    with background_thread(look, over, name="giving-way", end_s=_END_S):
        yield handed


def _turn_of(slug: str) -> str:
    """Return the name of the lock by which a run asks for a channel; no channel has that name."""
    return f"{slug} by schedule"


def rest_of(engine: Engine, run_id: str, now: datetime) -> datetime | None:
    """Return the planned end of the broadcast that this run has begun before; None without one.

    Raises Skipped if that time has passed: the run was restarted too late.
    """
    with engine.connect() as connection:
        begun = queries.broadcast_of_run(connection, run_id)
    if begun is None or begun.planned_end is None:
        return None
    if begun.status == "completed" or begun.planned_end <= now:
        raise Skipped(
            f"this run's broadcast of {begun.started_at:%H:%M:%S} UTC had ended when it was "
            f"started again, planned until {begun.planned_end:%H:%M:%S}"
        )
    return begun.planned_end
