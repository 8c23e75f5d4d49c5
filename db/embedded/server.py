"""The embedded Postgres on this machine, from a wheel's binaries: a socket, no TCP by default.

Several processes can share a server; the last one stops it. If a process dies
without stopping it, the server stays running, and the next process joins it.
"""

import fcntl
import logging
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, Self

import psycopg2

from db.embedded.cluster import DATABASE, check_version, initialise
from db.embedded.placement import (
    OPEN_DIR,
    POINTER,
    Account,
    account_for,
    binaries_for,
    file_lock,
    installed_binaries,
    named_by,
    place,
)
from db.embedded.postmaster import disown, last_errors, read_status, run_tool, start_guard
from db.embedded.socket_dir import PORT, make_socket_dir
from db.embedded.tcp import listening
from db.errors import EmbeddedError

_log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 60
_LOCK_S: Final = 1.0

NOT_DURABLE: Final = ("fsync = off", "full_page_writes = off")


def psql_path() -> Path:
    """Return the wheel's psql. Raise EmbeddedError if the wheel is not installed."""
    return installed_binaries() / "psql"


class EmbeddedPostgres:
    """A Postgres server with its data in `data_dir`; use it as a context manager.

    data_dir: created if missing. For root, if the server's OS user has no access to it, the data
        are below `open_dir`, and the file `location` in `data_dir` has the path (`moved_to`).
    os_user: OS user for root's server; created if missing.
    die_with_owner: stop the server also when this process is killed (for tests).
    durable: False does not sync to disk: fast, but lost if the machine crashes (for tests).
    port: on this machine, for the one user with a password; None: only the socket.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        os_user: str = "showmood",
        open_dir: Path = OPEN_DIR,
        die_with_owner: bool = False,
        durable: bool = True,
        port: int | None = None,
    ) -> None:
        """Store the arguments; does not start the server."""
        self.data_dir = Path(data_dir).absolute()
        self._os_user = os_user
        self._open_dir = open_dir
        self._die_with_owner = die_with_owner
        self._durable = durable
        self._port = port
        self._stop_mode = "fast" if durable else "immediate"
        self._home: Path | None = None
        self._in_use_fd: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._account: Account | None = None
        self._bin_dir = Path()
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Return the running server's URL. Raise EmbeddedError if it is not running."""
        status = read_status(self._cluster)
        if status is None or not status.ready:
            raise EmbeddedError(f"the Postgres of {self.data_dir} is not running: start it first")
        return status.url

    @property
    def exists(self) -> bool:
        """Return whether `data_dir` has, or points to, a cluster; starts nothing."""
        return self._found.is_dir()

    @property
    def running_url(self) -> str | None:
        """Return the URL of the server if any process runs it; starts nothing."""
        status = read_status(self._found)
        return status.url if status is not None and status.ready else None

    @property
    def running_port(self) -> int | None:
        """Return the TCP port of the server, if it is running and has one."""
        status = read_status(self._found)
        return status.port if status is not None and status.listens else None

    @property
    def _found(self) -> Path:
        return (named_by(self.data_dir / POINTER) or self.data_dir) / "cluster"

    @property
    def moved_to(self) -> Path | None:
        """Return the directory of the data, if it is not `data_dir`."""
        return self._home if self._home != self.data_dir else None

    @property
    def log_path(self) -> Path:
        """Return the server's log."""
        return self._cluster / "postgres.log"

    def start(self) -> Self:
        """Start the server, or join a running one; idempotent.

        Raise EmbeddedError with Postgres's last errors if it can't.
        """
        if self._in_use_fd is not None:
            return self
        if re.search(r'["$`\\\n]', str(self.data_dir)):  # pg_ctl hands its path to a shell
            raise EmbeddedError(f"choose a plainer path for Postgres than {self.data_dir!r}")
        try:
            self._home = place(self.data_dir, self._os_user, self._open_dir)
            with file_lock(self._home / "start.lock"):
                fd = os.open(self._home / "in-use", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_SH)
                    self._account = account_for(self._os_user, self._cluster)
                    self._bin_dir = binaries_for(self._account, self._open_dir)
                    self._start_locked()
                except BaseException:
                    os.close(fd)
                    raise
                self._in_use_fd = fd
        except PermissionError as error:
            raise EmbeddedError(
                f"{error.filename} is closed to this user: run as its owner, "
                "or choose another directory"
            ) from error
        if self.moved_to is not None:
            _log.info("the data of Postgres are in %s", self.moved_to)
        return self

    def has_ended(self) -> bool:
        """Return whether the server has ended although it is in use here."""
        return self._in_use_fd is not None and read_status(self._cluster) is None

    def revive(self) -> bool:
        """Restart the server if it has ended; return whether this call restarted it.

        Raise EmbeddedError if it can't, for example while children of the dead server are ending.
        """
        if not self.has_ended():
            return False
        with ExitStack() as held:
            try:
                held.enter_context(file_lock(self._home_dir / "start.lock", within_s=_LOCK_S))
            except BlockingIOError:
                return False  # another process starts it
            if not self.has_ended():
                return False
            self._dismiss_guard()
            self._start_locked()
        return True

    def stop(self) -> None:
        """Leave the server, and stop it if no other process uses it; idempotent.

        A concurrent start in another thread is aborted, with an error there.
        Raise EmbeddedError if it does not stop.
        """
        if self._in_use_fd is None or self._home is None:
            return
        fd, self._in_use_fd = self._in_use_fd, None
        self._stopping.set()
        try:
            # A process that holds it for longer is starting the server, and so uses it.
            with file_lock(self._home / "start.lock", within_s=_LOCK_S):
                self._dismiss_guard()
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if read_status(self._cluster) is not None:
                    self._run(
                        "pg_ctl", "stop", "-D", str(self._cluster), "-m", self._stop_mode, "-w"
                    )
        except BlockingIOError:
            _log.debug("%s is still in use by another process", self._home)
        finally:
            os.close(fd)
            self._stopping.clear()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def _home_dir(self) -> Path:
        if self._home is None:
            raise EmbeddedError(f"the Postgres of {self.data_dir} is not running: start it first")
        return self._home

    @property
    def _cluster(self) -> Path:
        return self._home_dir / "cluster"

    def _start_locked(self) -> None:
        cluster = self._cluster
        if not (cluster / "PG_VERSION").exists():
            initialise(cluster, self._run, account=self._account, durable=self._durable)
        check_version(cluster, self._run)
        if self._settle():
            return
        disown(cluster)
        settings = [
            *(
                ("listen_addresses = ''", f"port = {PORT}")
                if self._port is None
                else listening(cluster, self._port)
            ),
            f"unix_socket_directories = '{make_socket_dir(self._home_dir, self._account)}'",
            "unix_socket_permissions = 0700",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            *(() if self._durable else NOT_DURABLE),
        ]
        (cluster / "showmood.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
        (cluster / "showmood.conf").chmod(0o644)
        if self._die_with_owner:
            self._guard = start_guard(
                self._bin_dir / "pg_ctl", cluster, self._stop_mode, self._account
            )
        try:
            self._run(
                *("pg_ctl", "start", "-D", str(cluster), "-l", str(self.log_path)),
                *("-w", "-t", str(START_TIMEOUT_S)),
                given_up=lambda: self._stopping.is_set() and read_status(cluster) is not None,
            )
            self._ensure_database()
        except BaseException:
            self._dismiss_guard()
            raise

    def _settle(self) -> bool:
        """Wait until a starting or stopping server is up (True) or down (False)."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (status := read_status(self._cluster)) is not None:
            if status.ready:
                return True
            if self._stopping.wait(0.05) or time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the Postgres of {self._cluster} (process {status.pid}) neither starts nor "
                    f"stops: see {self.log_path}"
                )
        return False

    def _ensure_database(self) -> None:
        url = self.url.replace(f"/{DATABASE}?", "/postgres?")
        try:
            with closing(psycopg2.connect(url, connect_timeout=START_TIMEOUT_S)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.fetchone() is None:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.Error as error:  # for example if it was killed again
            cause = str(error).partition("\n")[0]
            raise EmbeddedError(
                f"Postgres in {self._cluster} has started, but fails: {cause}"
            ) from error

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _run(self, tool: str, *arguments: str, given_up: Callable[[], bool] = lambda: False) -> str:
        path = self._bin_dir / tool
        try:
            return run_tool(path, *arguments, account=self._account, given_up=given_up)
        except EmbeddedError as error:
            cause = (last_errors(self.log_path) if tool == "pg_ctl" else "") or str(error)
            raise EmbeddedError(f"Postgres in {self._cluster}: {cause}") from error
