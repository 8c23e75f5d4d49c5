"""The first page: what is on air, what is next, and the last shows of each channel."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import Connection, Row

from db.channel_lock import is_watched
from db.tables.shows import EMOTIONS
from flows.errors import UsageError
from flows.page.reading import show_queries
from flows.page.reading.show_queries import ShowRow
from flows.page.routes.context import Context, page
from flows.shows.showfile import read_showfile

STRIP_PARTS: Final = 60
SHOWN: Final = 30
"""Most shows on a channel's own page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A show in the list.

    strip: (emotion, path) of its areas, 100 wide and 10 high. on_air: now; if not, see its
    `status`.
    """

    show: ShowRow
    on_air: bool
    emotion: str | None
    share: float
    strip: tuple[tuple[str, str], ...]
    seconds: float
    gaps: int
    gap_s: float
    tracks: int


def router(context: Context) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/")
    def shows(request: Request, channel: str | None = None, skip: int = 0) -> Response:
        with context.reader.connect() as connection:
            names = show_queries.channels(connection)
            if channel is not None:
                context.require_channel(channel, names)
            skip = min(max(0, skip), 1_000_000)
            most = SHOWN if channel else show_queries.LISTED
            found = show_queries.shows(connection, channel, most=most + 1, skip=skip)
            listed = list_shows(connection, found)
        next_starts: tuple[tuple[datetime, str, str], ...] = ()
        unread = ""
        try:
            next_starts = () if channel else coming(context.prefect_file)
        except UsageError as e:
            unread = str(e)
        by_channel: dict[str, list[Listed]] = {}
        for each in listed:
            by_channel.setdefault(each.show.channel, []).append(each)
        return page(
            "shows.html",
            here="shows",
            channel=channel,
            skip=skip,
            most=most,
            by_channel=by_channel,
            on_air=[each for each in listed if each.on_air],
            coming=next_starts,
            unread=unread,
            names=names,
        )

    return routes


def list_shows(connection: Connection, found: list[ShowRow]) -> list[Listed]:
    """Return shows with their figures and strips."""
    ids = [show.broadcast_id for show in found]
    figures = {row.broadcast_id: row for row in show_queries.rows(connection, "figures", ids=ids)}
    minutes: dict[int, list[Any]] = {}
    for row in show_queries.rows(connection, "strips", ids=ids):
        minutes.setdefault(row.broadcast_id, []).append(row)
    return [
        _listed(
            connection, show, figures.get(show.broadcast_id), minutes.get(show.broadcast_id, [])
        )
        for show in found
    ]


def _listed(
    connection: Connection, show: ShowRow, figures: Row[Any] | None, minutes: list[Any]
) -> Listed:
    begin = show.started_at if figures is None or figures.begin is None else figures.begin
    until = begin if figures is None or figures.until is None else figures.until
    seconds = max((until - begin).total_seconds(), 1.0)
    n = sum(row.seconds for row in minutes)
    means = {
        name: sum((getattr(row, name) or 0.0) * row.seconds for row in minutes) / n if n else 0
        for name in EMOTIONS
    }
    emotion = max(means, key=means.__getitem__) if n else None
    return Listed(
        show=show,
        on_air=show.status == "live" and is_watched(connection, show.channel),
        emotion=emotion,
        share=means[emotion] if emotion else 0.0,
        strip=strip(minutes, begin, seconds),
        seconds=seconds if minutes or until > begin else 0.0,
        gaps=figures.gaps if figures else 0,
        gap_s=figures.gap_s if figures else 0.0,
        tracks=figures.tracks if figures else 0,
    )


def strip(minutes: list[Any], begin: datetime, seconds: float) -> tuple[tuple[str, str], ...]:
    """Return the shares of a show's emotions over its length as stacked areas.

    Each is an emotion and an SVG path, 100 wide and 10 high; times without a face are left out.
    """
    every = max(1, -(-len(minutes) // STRIP_PARTS))
    steps: dict[str, list[str]] = {name: [] for name in EMOTIONS}
    for first in range(0, len(minutes), every):
        part = minutes[first : first + every]
        sums = [sum(getattr(row, name) or 0.0 for row in part) for name in EMOTIONS]
        whole = sum(sums) or 1.0
        left = 100 * max(0.0, (part[0].minute - begin).total_seconds()) / seconds
        right = min(100.0, 100 * ((part[-1].minute - begin).total_seconds() + 60) / seconds)
        y = 10.0
        for name, value in zip(EMOTIONS, sums, strict=True):
            top = y - 10 * value / whole
            if y - top >= 0.05 and right > left:
                steps[name].append(f"M{left:.1f} {top:.1f}H{right:.1f}V{y:.1f}H{left:.1f}z")
            y = top
    return tuple((name, "".join(found)) for name, found in steps.items() if found)


def coming(file: Path | None) -> tuple[tuple[datetime, str, str], ...]:
    """Return the next starts of the shows that a prefect.yaml schedules: when, name, how.

    Raises UsageError where it can't be read.
    """
    if file is None or not file.is_file():
        return ()
    deployments = read_showfile(file)
    now = datetime.now(UTC)
    found = []
    for each in deployments:
        for slot in each.slots if each.is_show else ():
            start = slot.slot.next_start(now) if slot.slot.active else None
            if start is not None and start < now + timedelta(days=8):
                found.append((start, each.name, slot.slot.in_words))
    return tuple(sorted(found)[:6])
