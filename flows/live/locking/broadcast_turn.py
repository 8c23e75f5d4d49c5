"""Locks for reanalysis: one run at a time may number a broadcast's tracks."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.errors import ChannelBusy
from db.reading.parts import parts_between
from flows.live.locking.local_lock import hold_channel

POLL_S: Final = 1.0

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


@contextmanager
def turn_to_analyse(
    engine: Engine,
    directory: Path,
    channel: str,
    begin: datetime,
    end: datetime,
    *,
    holder: str,
    log: Log | None = None,
) -> Iterator[None]:
    """Hold the locks of the broadcasts in [begin, end); of the channel where one is on air.

    log: if given, waits for a broadcast that is being analysed, and logs that. Raises ChannelBusy
    without it, and for a channel that is being watched, which may take hours.
    """
    with ExitStack() as held:
        for lock, may_wait in _locks(engine, channel, begin, end):
            waited = False
            while True:
                try:
                    held.enter_context(hold_channel(engine, directory, lock, holder))
                    break
                except ChannelBusy as busy:
                    if log is None or not may_wait:
                        raise
                    if not waited:
                        log.info("a part of it is being analysed by %s: waiting", busy.holder)
                    waited = True
                time.sleep(POLL_S)
        yield


def _locks(engine: Engine, channel: str, begin: datetime, end: datetime) -> list[tuple[str, bool]]:
    """Return the names of the locks, oldest first, and whether to wait for each."""
    with engine.connect() as connection:
        parts = parts_between(connection, channel, begin, end)
    if not parts or any(part.status == "live" for part in parts):
        return [(channel, False)]
    return [(f"{channel} again {part.broadcast_id}", True) for part in parts]
