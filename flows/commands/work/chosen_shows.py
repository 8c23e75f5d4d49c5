"""Selects the shows of a channel by number, day, time or title."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from db.reading.shows import ShowRow, shows_of
from flows.errors import UsageError
from flows.show import parse_time

HELP: Final = (
    "One show: its number (broadcast_id), the day it began, a time when it was on air, its title, "
    "or last."
)


def chosen_shows(connection: Connection, channel: str, selector: str | None) -> list[ShowRow]:
    """Return the shows that a selector (see HELP) matches, oldest first; None: all shows.

    Raises UsageError, with the newest shows, if none matches; UnknownChannel.
    """
    there = shows_of(connection, channel)
    if selector is None:
        return there
    if found := _matching(there, selector):
        return found
    newest = "; ".join(show.summary() for show in there[-3:]) or "it has none"
    raise UsageError(f"{channel} has no show {selector!r}; the newest are {newest}")


def _matching(there: Sequence[ShowRow], selector: str) -> list[ShowRow]:
    if selector == "last":
        return list(there[-1:])
    if re.fullmatch(r"\d{1,9}", selector):
        return [show for show in there if show.id == int(selector)]
    if re.fullmatch(r"\d{4}-\d\d-\d\d", selector):
        begin = parse_time(selector).astimezone()
        return [show for show in there if show.started_at.astimezone().date() == begin.date()]
    if re.match(r"\d{4}-\d\d-\d\d", selector):
        at = parse_time(selector)
        now = datetime.now(UTC)
        return [show for show in there if show.started_at <= at < (show.ended_at or now)]
    return [show for show in there if show.title == selector]
