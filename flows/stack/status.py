"""`showmood status`: what runs, the state of the channels, and problems.

It starts nothing and changes nothing.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import httpx
from sqlalchemy import Connection, text

from db.channel_lock import is_watched
from db.embedded.server import EmbeddedPostgres
from db.errors import DatabaseError
from db.machines import machines
from db.session import make_engine, redact, require_current
from flows.control.client.api import connect
from flows.settings import Settings
from flows.shows.applying import credentials, server_environment

PACKAGES: Final = ("showmood", "prefect", "yt-dlp", "torch")
OLD_YT_DLP_DAYS: Final = 60
"""Sites change: an older yt-dlp fails on some of them."""

LATE_S: Final = 60.0
"""Most seconds that the newest row of a channel on air may be old."""

_NEWEST = text(
    "SELECT c.slug, s.ended_at, s.lag_ms, b.status = 'live' AS live, b.started_at, b.planned_end"
    " FROM channels c"
    " LEFT JOIN LATERAL (SELECT ended_at, lag_ms FROM segments"
    "  WHERE channel_id = c.id ORDER BY started_at DESC LIMIT 1) s ON true"
    " LEFT JOIN LATERAL (SELECT status, started_at, planned_end FROM broadcasts"
    "  WHERE channel_id = c.id ORDER BY started_at DESC LIMIT 1) b ON true ORDER BY c.slug"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelStatus:
    """A channel's newest segment. newest: its end, aware UTC; None: nothing is stored."""

    channel: str
    on_air: bool
    newest: datetime | None
    lag_ms: int | None


@dataclass(kw_only=True, slots=True)
class StackStatus:
    """The stack's status; problems: a line on each thing that needs attention."""

    home: str
    versions: dict[str, str | None]
    yt_dlp_age_days: int | None
    database: str
    server: str
    workers: dict[str, str] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    channels: list[ChannelStatus] = field(default_factory=list)
    free_disk_mb: int | None = None
    problems: list[str] = field(default_factory=list)


def read_status(settings: Settings, env: Mapping[str, str], now: datetime) -> StackStatus:
    """Look at the database, the server that `env` names, its workers, the disk and the versions."""
    age_days = yt_dlp_age_days(now.date())
    found = StackStatus(
        home=str(settings.home),
        versions={name: _version(name) for name in PACKAGES},
        yt_dlp_age_days=age_days,
        database="",
        server="",
    )
    _look_at_database(settings, found, now)
    _look_at_server(server_environment(settings) | dict(env), found)
    _look_at_disk(settings, found)
    if age_days is not None and age_days > OLD_YT_DLP_DAYS:
        found.problems.append(
            f"yt-dlp is {age_days} days old: sites change, upgrade it "
            f"({sys.executable} -m pip install --upgrade 'yt-dlp[default]')"
        )
    return found


def yt_dlp_age_days(today: date) -> int | None:
    """Return the age of the installed yt-dlp, whose version is its date; None if it is no date."""
    try:
        year, month, day = map(int, version("yt-dlp").split(".")[:3])
        return (today - date(year, month, day)).days
    except (PackageNotFoundError, ValueError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _look_at_database(settings: Settings, found: StackStatus, now: datetime) -> None:
    url = settings.database_url
    try:
        if url is None:
            postgres = EmbeddedPostgres(settings.home / "postgres")
            url = postgres.running_url
            if url is None:
                found.database = "embedded, not running" if postgres.exists else "none yet"
                found.problems.append(f"the database in {settings.home} is not up: showmood up")
                return
            found.database = "embedded, up"
        else:
            found.database = redact(url)
        engine = make_engine(url)
        try:
            require_current(engine)
            with engine.connect() as connection:
                _look_at_channels(connection, found, now)
                _look_at_machines(connection, found, now)
        finally:
            engine.dispose()
    except DatabaseError as e:
        found.problems.append(str(e))
        return


def _look_at_channels(connection: Connection, found: StackStatus, now: datetime) -> None:
    for row in connection.execute(_NEWEST):
        on_air = bool(row.live) and is_watched(connection, row.slug)
        found.channels.append(
            ChannelStatus(channel=row.slug, on_air=on_air, newest=row.ended_at, lag_ms=row.lag_ms)
        )
        if on_air:
            behind_s = (now - max(row.ended_at or row.started_at, row.started_at)).total_seconds()
            if behind_s > LATE_S:
                found.problems.append(
                    f"{row.slug} is on air, and its newest row is {behind_s:.0f} s old"
                )
        elif row.live and row.planned_end is not None and row.planned_end > now:
            found.problems.append(f"{row.slug} stopped before its end, and no worker watches it")


def _look_at_machines(connection: Connection, found: StackStatus, now: datetime) -> None:
    own_version = found.versions["showmood"]
    for each in machines(connection):
        if not each.is_there:
            found.machines[each.name] = f"not seen since {each.seen_at:%Y-%m-%d %H:%M} UTC"
            continue
        state = f"{each.version}"
        if each.uploads:
            age_s = (now - each.upload_since).total_seconds() if each.upload_since else 0.0
            state += f", {each.uploads} files ({(each.upload_bytes or 0) / 1e6:.0f} MB) wait to be "
            state += f"copied, the oldest for {age_s:.0f} s"
            if each.upload_error or age_s > LATE_S:
                why = each.upload_error or "the store is slow"
                found.problems.append(
                    f"{each.name} has {each.uploads} recorded files to copy, the oldest for "
                    f"{age_s:.0f} s: {why}"
                )
        found.machines[each.name] = state
        if each.version != own_version:
            found.problems.append(
                f"{each.name} has Showmood {each.version}, this machine {own_version}"
            )


def _look_at_server(env: Mapping[str, str], found: StackStatus) -> None:
    url = env["PREFECT_API_URL"]
    try:
        with connect(url, credentials(env)) as http:
            pools = http.post("/work_pools/filter", json={}).raise_for_status().json()
            found.server = f"up, {url}"
            for pool in pools:
                _look_at_pool(http, pool["name"], found)
    except httpx.HTTPStatusError as e:
        found.server = f"{url} answered {e.response.status_code}"
        refused = e.response.status_code in (401, 403)
        hint = ": it needs a login, `showmood env` prints it" if refused else ""
        found.problems.append(f"the Prefect server at {found.server}{hint}")
        return
    except httpx.HTTPError:
        found.server = f"no answer from {url}"
        found.problems.append(f"no Prefect server answers at {url}: showmood up")
        return
    if "ONLINE" not in found.workers.values():
        found.problems.append("no worker is online: no show can be watched")


def _look_at_pool(http: httpx.Client, pool: str, found: StackStatus) -> None:
    answer = http.post(f"/work_pools/{pool}/workers/filter", json={}).raise_for_status()
    workers: list[dict[str, Any]] = answer.json()
    for worker in workers:
        found.workers[f"{pool}/{worker['name']}"] = worker["status"]


def _look_at_disk(settings: Settings, found: StackStatus) -> None:
    there = settings.home
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        found.free_disk_mb = shutil.disk_usage(there).free >> 20
    except OSError as e:
        found.problems.append(f"{there}: {e.strerror}")
        return
    if found.free_disk_mb < settings.min_free_disk_mb:
        found.problems.append(
            f"{found.free_disk_mb} MB are free in {there}, fewer than SHOWMOOD_MIN_FREE_DISK_MB "
            f"({settings.min_free_disk_mb}): recording pauses"
        )


def as_json(found: StackStatus) -> dict[str, Any]:
    """Return it for JSON, with times in ISO 8601."""
    values: dict[str, Any] = {name: getattr(found, name) for name in StackStatus.__slots__}
    values["channels"] = [
        {
            "channel": each.channel,
            "on_air": each.on_air,
            "newest": each.newest.astimezone(UTC).isoformat() if each.newest else None,
            "lag_ms": each.lag_ms,
        }
        for each in found.channels
    ]
    return values
