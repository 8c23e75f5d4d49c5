"""The environment of the stack's processes: server, workers and runs."""

import json
import os
from pathlib import Path
from typing import Final

from sqlalchemy import text

from db.passfile import without_password, write_passfile
from db.session import driver_url, make_engine, redact
from flows import NO_TELEMETRY
from flows.auth.access import Access
from flows.control import healing
from flows.errors import StackError
from flows.settings import Settings, running_database

DAY_S: Final = 86400
REPORTS_S: Final = 2 * 3600
PASSFILE: Final = "pgpass"

ELSEWHERE: Final = frozenset(
    {
        "PREFECT_API_URL",
        "PREFECT_API_KEY",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_HOME",
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
        "PREFECT_SERVER_API_BASE_PATH",
    }
)
"""Prefect's settings that name another server, or another folder of this one."""


_DEFAULTS: Final = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows.capture",
}
"""Settings of Prefect's for workers and runs, unless the operator set them."""

SERVERS_ALONE: Final = (
    "PREFECT_SERVER_",
    "PREFECT_API_DATABASE_",
    "SHOWMOOD_PREFECT_DATABASE_URL",
    "SHOWMOOD_PAGE_PASSWORD",
)
"""Prefixes of settings that may hold passwords and that runs do not need."""


def environment(
    settings: Settings,
    *,
    database_url: str,
    api_url: str,
    access: Access,
    allow: tuple[str, ...],
    server: bool = False,
) -> dict[str, str]:
    """Return this environment with what the stack's processes need: its server, or all others.

    The operator's own settings of Prefect are passed on, but for those that name another server.
    allow: networks or host:port pairs, on top of the operator's, that runs may fetch from.

    Raises StackError where Prefect cannot use the database that is set for it.
    """
    home = settings.home
    given = {
        name: value
        for name, value in os.environ.items()
        if name not in ELSEWHERE
        and not name.startswith("PREFECT__")
        and (server or not name.startswith(SERVERS_ALONE))
    }
    defaults = {
        **_DEFAULTS,
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        **(_retention(settings) if server else {}),
        "PREFECT_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    fixed = {
        "OMP_WAIT_POLICY": "PASSIVE",  # as in cli.main
        **_places(home, database_url),
        "SHOWMOOD_ALLOW_NETWORKS": ",".join((*settings.allow_networks, *allow)),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": api_url,
        "PREFECT_API_AUTH_STRING": access.auth_string,
        **(_server_database(settings) if server else {}),
        "PREFECT_CLI_PROMPT": "false",
    }
    return defaults | given | fixed | NO_TELEMETRY


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return this environment with what a worker of a server elsewhere needs for its runs.

    What the operator set is passed on, also OMP_WAIT_POLICY.
    """
    (settings.home / "tmp").mkdir(exist_ok=True)
    fixed = _places(settings.home, running_database(settings))
    return _DEFAULTS | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ) | fixed | NO_TELEMETRY


def _places(home: Path, database_url: str) -> dict[str, str]:
    """Return the variables that name a run's folders and database."""
    return {
        # Prefect keeps its runs' files there in a folder of a fixed name, which two users of a
        # machine can't share.
        "TMPDIR": str(home / "tmp"),
        "SHOWMOOD_HOME": str(home),
        **database_environment(database_url, home),
    }


def database_environment(url: str, home: Path) -> dict[str, str]:
    """Return the variables that name the database for a run, its password in a file of the home.

    An environment may be written to disk, e.g. where Prefect starts a run by its own command.
    """
    plain, secret = without_password(url)
    passfile = {} if secret is None else write_passfile(home / PASSFILE, secret)
    return {"SHOWMOOD_DATABASE_URL": plain, **passfile}


def prefect_database(url: str) -> str:
    """Return a database's URL as Prefect's server takes it.

    Raises StackError where it lacks what Prefect needs, db.errors.DatabaseError where it is no
    database or does not answer.
    """
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            known = text("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
            if connection.scalar(known) is None:
                raise StackError(
                    f"Prefect needs the extension pg_trgm, which {redact(url)} does not have: "
                    "take one with the contrib modules, or unset SHOWMOOD_PREFECT_DATABASE_URL"
                )
    finally:
        engine.dispose()
    driver = driver_url(url).set(drivername="postgresql+asyncpg")
    return driver.render_as_string(hide_password=False)


def _retention(settings: Settings) -> dict[str, str]:
    """Return what bounds Prefect's history: runs with all that belongs to them, and events."""
    vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM"
    days = settings.keep_runs_days
    bounds = {
        f"{vacuum}_ENABLED": "events,flow_runs" if days else "events",
        f"{vacuum}_EVENT_RETENTION_OVERRIDES": json.dumps(
            dict.fromkeys((healing.ALIVE, "prefect.flow-run.heartbeat"), DAY_S)
            # Each holds a whole report, which the artifact itself has too.
            | {"prefect.artifact.updated": REPORTS_S}
        ),
    }
    return bounds | ({f"{vacuum}_RETENTION_PERIOD": str(days * DAY_S)} if days else {})


def _server_database(settings: Settings) -> dict[str, str]:
    url = settings.prefect_database_url
    if url is None:
        return {}
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_database(url)}
