"""Turns on a broadcast that is analysed again: its tracks are numbered by one run at a time."""

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

ASK_EVERY_S: Final = 1.0

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
    """Hold every broadcast of [begin, end) of a channel; the channel itself where one is on air.

    log: given, a broadcast that is being analysed is waited for, and a line says so. Raises
    ChannelBusy without it, and for a channel that is watched: that may take hours.
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
                time.sleep(ASK_EVERY_S)
        yield


def _locks(engine: Engine, channel: str, begin: datetime, end: datetime) -> list[tuple[str, bool]]:
    """Return what is locked, oldest first, and whether it may be waited for."""
    with engine.connect() as connection:
        parts = parts_between(connection, channel, begin, end)
    if not parts or any(part.status == "live" for part in parts):
        return [(channel, False)]
    return [(f"{channel} again {part.broadcast_id}", True) for part in parts]
