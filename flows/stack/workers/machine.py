"""A machine among others: registers its name, copies its files, stores what it left behind."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.errors import ChannelBusy, DatabaseError, MachineNameTaken
from db.machines import behind_ms, leave, register
from db.session import make_engine
from flows.capture.waits import background_thread
from flows.errors import UsageError
from flows.live.locking.local_lock import hold_channel
from flows.live.rows.left_behind import write_left_behind
from flows.recordings.uploading import Uploads, uploading, uploads_of
from flows.settings import Settings, running_database
from flows.stack.processes.home import disk_of

_log = logging.getLogger(__name__)

SEEN_EVERY_S: Final = 30.0


@contextmanager
def among_machines(
    settings: Settings, database_url: str, *, echo: Callable[[str], None]
) -> Iterator[Uploads | None]:
    """Register this machine while the context lasts, and copy its recordings to the store.

    First stores what its watchers left behind when they last died. Yields the uploads; None
    where no store is set. Raises MachineNameTaken, DatabaseError, UsageError.
    """
    engine = make_engine(database_url)
    over = threading.Event()
    disk = disk_of(settings.home)

    def stay() -> None:
        while not over.wait(SEEN_EVERY_S):
            try:
                _register(engine, settings, disk)
            except MachineNameTaken as e:
                _log.warning("%s", e)
            except (DatabaseError, DBAPIError) as e:
                _log.debug("this machine could not be registered; will retry: %s", e)
            except Exception:  # noqa: BLE001 - else other machines take over its shows
                _log.exception("an internal error: this machine is not known to others now")

    try:
        if line := _register(engine, settings, disk):
            echo(line)
        write_all_left_behind(engine, settings)
        uploads = uploads_of(settings, engine)
        with background_thread(stay, over, name="machine", end_s=0.0), uploading(uploads):
            yield uploads
        with suppress(DatabaseError, DBAPIError), engine.begin() as connection:
            leave(connection, disk)
    finally:
        engine.dispose()


def _register(engine: Engine, settings: Settings, disk: str) -> str | None:
    with engine.begin() as connection:
        name = settings.machine_name
        return register(connection, name=name, disk=disk, version=version("showmood"))


def write_all_left_behind(engine: Engine, settings: Settings) -> None:
    """Write what dead watchers left behind on this machine."""
    for directory in sorted(settings.recordings_dir.glob("*/")):
        with (
            suppress(ChannelBusy),  # its watcher does it
            hold_channel(engine, settings.recordings_dir, directory.name, "maintenance"),
        ):
            write_left_behind(engine, directory, settings.machine_name)


def is_behind(settings: Settings) -> bool:
    """Return whether this machine analyses its shows too late; False where that is unknown."""
    try:
        engine = make_engine(running_database(settings))
        try:
            with engine.connect() as connection:
                lag_ms = behind_ms(connection, settings.machine_name)
        finally:
            engine.dispose()
    except (DatabaseError, DBAPIError, UsageError):
        return False
    return lag_ms is not None and lag_ms > settings.tell_behind_s * 1000
