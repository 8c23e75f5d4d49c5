"""The flow maintain: makes partitions ahead, deletes rows and recordings past their retention."""

import logging
import os
from datetime import UTC, datetime, timedelta

import httpx
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed

from db.errors import DatabaseError
from db.machines import machines
from db.maintain import Maintained, Retention
from db.maintain import maintain as maintain_tables
from db.session import make_engine, require_current
from flows.control.client.api import connect
from flows.control.client.run_history import forget_runs
from flows.errors import ShowmoodError
from flows.forwarding import forward_run
from flows.live.rows.left_behind import set_aside
from flows.objects.configured import objects_of
from flows.recordings.alert_clips import roll_clips
from flows.recordings.retention import Limits, Log, Recordings
from flows.recordings.store_retention import roll_store
from flows.settings import Settings, load_settings, running_database
from flows.shows.applying import credentials
from flows.stack.workers.machine import write_all_left_behind

_log = logging.getLogger(__name__)


def retention_of(settings: Settings) -> Retention:
    """Return the retention of each table's rows, from the settings."""
    return Retention(
        observations_days=settings.keep_observations_days or None,
        minutes_days=settings.keep_minutes_days or None,
        tracks_days=settings.keep_tracks_days or None,
        segments_days=settings.keep_segments_days or None,
        gaps_days=settings.keep_gaps_days or None,
    )


def maintain_here(
    settings: Settings,
    database_url: str,
    *,
    now: datetime,
    log: Log = _log,
    disk_only: bool = False,
) -> list[Maintained]:
    """Maintain the database in this process; return what was done, one entry a table.

    First, pending writes on disk of channels that are not being watched are applied. Then old
    recordings and clips on this machine are deleted. disk_only: stop after that.

    Raises one of DatabaseError; OSError for a recording that can't be deleted.
    """
    engine = make_engine(database_url)
    try:
        require_current(engine)
        write_all_left_behind(engine, settings)
        if damaged := set_aside(settings.recordings_dir):
            log.warning(
                "%d writes can't be applied and are set aside, the newest as %s: their rows are "
                "not in the database; `showmood replay` analyses that part again",
                len(damaged),
                damaged[-1],
            )
        recordings = Recordings(
            engine=engine, directory=settings.recordings_dir, limits=Limits.of(settings), log=log
        )
        if (rolled := recordings.run(now)) is not None:
            log.info("%s", rolled.summary())
        if (objects := objects_of(settings)) is not None and not disk_only:
            n_copies, n_bytes = roll_store(
                engine,
                objects,
                now=now,
                days=settings.keep_recordings_days or None,
                most_bytes=round(settings.keep_store_gb * (1 << 30)) or None,
            )
            log.info("%d copies (%.1f MB) deleted in %s", n_copies, n_bytes / 1e6, objects.url)
        n_clips, n_bytes = roll_clips(settings, now)
        if n_clips:
            log.info("%d clips (%.1f MB) deleted", n_clips, n_bytes / 1e6)
        return [] if disk_only else maintain_tables(engine, retention_of(settings), now=now)
    finally:
        engine.dispose()


def table_of(done: list[Maintained]) -> list[dict[str, str | int]]:
    """Return what was done, as rows of the table artifact in the UI."""
    return [
        {
            "table": each.table,
            "kept since": f"{each.before:%Y-%m-%d}" if each.before else "for ever",
            "rows deleted": each.deleted,
            "partitions dropped": ", ".join(each.dropped) or "none",
            "partitions made": ", ".join(each.made) or "none",
            "left for next time": ", ".join(each.postponed) or "none",
        }
        for each in done
    ]


@flow(name="maintain", persist_result=False)
def maintain(disk_only: bool = False) -> State:
    """Make partitions ahead and delete rows and recordings older than the settings keep them.

    Idempotent, and safe while shows are watched.

    Args:
        disk_only: Only delete old files on this machine. A full run starts such a run on each
            other machine.
    """
    log = get_run_logger()
    try:
        settings = load_settings()
        url, now = running_database(settings), datetime.now(UTC)
        done = maintain_here(settings, url, now=now, log=log, disk_only=disk_only)
        if disk_only:
            return Completed(message=f"the disk of {settings.machine_name} is within its limits")
        for line in forward_run(_others(settings, url), {"disk_only": True}):
            log.info("files on another machine: %s", line)
    except (ShowmoodError, DatabaseError, OSError) as e:
        log.error("%s", e)
        return Failed(message=str(e))
    forgotten = forget_old_runs(settings, datetime.now(UTC), log)
    create_table_artifact(table_of(done), key="maintenance", description="What maintain did")
    dropped = sum(len(each.dropped) for each in done)
    return Completed(
        message=f"{dropped} months and {sum(each.deleted for each in done)} rows were dropped, "
        f"{forgotten} runs deleted"
    )


def _others(settings: Settings, database_url: str) -> list[str]:
    """Return the names of the other machines that are running."""
    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            return [
                each.name
                for each in machines(connection)
                if each.is_there and each.name != settings.machine_name
            ]
    finally:
        engine.dispose()


def forget_old_runs(settings: Settings, now: datetime, log: Log) -> int:
    """Delete our runs that are older than keep_runs_days from the Prefect server."""
    url = get_current_settings().api.url
    if not settings.keep_runs_days or url is None:
        return 0
    before = now - timedelta(days=settings.keep_runs_days)
    try:
        with connect(url, credentials(os.environ)) as http:
            return forget_runs(http, before=before)
    except httpx.HTTPError as e:
        log.warning("old runs could not be deleted: %r", e)
        return 0
