"""The embedded Postgres, restarted when it ends unexpectedly while a process uses it."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from db.embedded.reader import let_reader_in, reader_url
from db.embedded.server import EmbeddedPostgres
from db.errors import EmbeddedError
from db.session import upgrade
from flows.auth.access import Access
from flows.capture.waits import background_thread
from flows.errors import StackError
from flows.settings import Settings
from flows.stack.processes.child import Tries
from flows.stack.processes.home import make_home

_log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
_STOP_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
"""Seconds before a failed start is retried; each pause is twice the one before."""


class Postgres:
    """A server that this process uses, tended like the stack's other servers."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        """Begin with one that runs."""
        self._server = server
        self._tries = Tries()
        self._pause_s = 0.0
        self._not_before = 0.0
        self._reported = ""

    @property
    def url(self) -> str:
        """Return its URL, the same after each start. Raises EmbeddedError while it is down."""
        return self._server.url

    def tend(self) -> str | None:
        """Start it again if it has ended; return a message on that.

        Raises StackError when it was started and has ended again too often. If it does not start,
        e.g. on a full disk, that is retried without limit: shows are recorded meanwhile, and their
        writes are queued.
        """
        if time.monotonic() < self._not_before:
            return None
        try:
            if not self._server.has_ended() or not self._server.revive():
                return None
        except (EmbeddedError, OSError) as e:
            self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
            self._not_before = time.monotonic() + self._pause_s
            before, self._reported = self._reported, f"Postgres has ended, and does not start: {e}"
            return self._reported if self._reported != before else None
        self._pause_s, self._reported = 0.0, ""
        reason = f"Postgres ended (log: {self._server.log_path})"
        self._tries.require(reason)
        self._tries.count()
        return f"{reason}; it was started again"


def embedded(settings: Settings, stack: ExitStack) -> Postgres:
    """Start the home folder's Postgres, migrated, for as long as `stack` lasts.

    With a port (SHOWMOOD_DATABASE_PORT), its reader may connect by that.
    """
    make_home(settings.home)
    server = EmbeddedPostgres(settings.home / "postgres", port=settings.database_port)
    server.start()
    stack.callback(server.stop)
    upgrade(server.url)
    if (port := server.running_port) is not None:
        let_reader_in(server.url, port, reader_password(settings))
    return Postgres(server)


def reader_password(settings: Settings) -> str:
    """Return the password of the embedded Postgres's reader, made of the home's secret."""
    return Access.make(settings.home).apart("postgres").secret


def readers_address(settings: Settings) -> str | None:
    """Return the URL for programs that connect by the port; None if the server has none."""
    port = EmbeddedPostgres(settings.home / "postgres").running_port
    return None if port is None else reader_url(port, reader_password(settings))


@contextmanager
def tended(postgres: Postgres, *, every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """Tend it while the caller works, and log its messages."""
    over = threading.Event()

    def tend() -> None:
        try:
            while not over.wait(every_s):
                reason = postgres.tend()
                if reason and not over.is_set():
                    _log.warning("%s", reason)
        except StackError as e:
            _log.error("%s", e)

    # A start in progress is given up once the server is stopped.
    with background_thread(tend, over, name="postgres", end_s=_STOP_S):
        yield


def database(settings: Settings, stack: ExitStack) -> str:
    """Return the URL of the database to use, migrated; an embedded one is started for `stack`.

    It is tended until then. Raises db.errors.DatabaseError when a given database does not answer.
    """
    if settings.database_url is not None:
        upgrade(settings.database_url)
        return settings.database_url
    postgres = embedded(settings, stack)
    stack.enter_context(tended(postgres))
    return postgres.url
