"""Holds on to a channel's lock while its database may go away and come back."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from db.channel_lock import ChannelLock
from db.errors import ChannelLockLost
from db.writing.spool import PASSING

CHECK_S: Final = 2.0
"""So often it is asked for: nobody else shall have it between a database's return and ours."""

_LAST_S: Final = 5.0
"""The end waits so long for an answer that is on its way."""

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


class Hold:
    """Asks for a channel's lock on a thread of its own, for as long as its context lasts.

    lost: called when somebody else has it.
    """

    def __init__(self, lock: ChannelLock, log: Log, *, lost: Callable[[], object]) -> None:
        """Nothing is asked yet."""
        self._lock, self._log, self._when_lost = lock, log, lost
        self._over = threading.Event()
        self._asking = threading.Lock()
        self._away = False
        self._lost: ChannelLockLost | None = None
        self._thread = threading.Thread(target=self._run, name="channel-lock", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End."""
        self._over.set()
        self._thread.join(_LAST_S)

    def check(self) -> None:
        """Ask now; raises ChannelLockLost if somebody else has it."""
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
                # The show goes on: what is seen waits on disk, and so does the question whose it
                # is.
                if not self._away:
                    self._log.warning("whether the channel is still ours is asked later: %s", e)
                self._away = True
            except ChannelLockLost as e:
                self._lost = e
                self._when_lost()
            else:
                self._away = False
