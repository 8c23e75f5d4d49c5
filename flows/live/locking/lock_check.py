"""Checks a channel's lock while the database may go away and come back."""

import logging
import threading
from collections.abc import Callable
from typing import Final, Self

from db.channel_lock import ChannelLock
from db.errors import ChannelLockLost
from db.writing.spool import PASSING
from flows.errors import HandedOver

CHECK_S: Final = 2.0
"""Seconds between two checks: short, so that no other process gets the lock after an outage."""

_STOP_S: Final = 5.0
"""Seconds to wait at the end for a check in progress."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Hold:
    """Checks a channel's lock on its own thread while its context lasts.

    lost: called when another process has it. own: the run that this process is of, if any.
    """

    def __init__(
        self, lock: ChannelLock, log: Log, *, lost: Callable[[], object], own: str | None = None
    ) -> None:
        """Keep the arguments; nothing is checked yet."""
        self._lock, self._log, self._when_lost, self._own = lock, log, lost, own
        self._over = threading.Event()
        self._asking = threading.Lock()
        self._away = False
        self._lost: ChannelLockLost | HandedOver | None = None
        self._thread = threading.Thread(target=self._run, name="channel-lock", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join(_STOP_S)

    def check(self) -> None:
        """Check now; raises ChannelLockLost if another run has it, HandedOver if this one has."""
        self._ask()
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while self._lost is None and not self._over.wait(CHECK_S):
            self._ask()

    def _ask(self) -> None:
        with self._asking:
            if self._lost is not None:
                return
            try:
                self._lock.check()
            except PASSING as e:
                # The show continues: its writes wait on disk until the lock can be verified.
                if not self._away:
                    self._log.warning("could not verify the channel lock; will retry: %s", e)
                self._away = True
            except ChannelLockLost as e:
                goes_on = e.holder is not None and e.holder == self._own
                self._lost = HandedOver(str(e)) if goes_on else e
                self._when_lost()
            else:
                self._away = False
