"""The shows of a channel that a command is about: by number, day, time or title."""

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


def chosen_shows(connection: Connection, channel: str, said: str | None) -> list[ShowRow]:
    """Return the shows that `said` means, oldest first; all without it.

    Several may have begun on one day, or have one title.

    Raises UsageError, which names the newest there are, when there is none; UnknownChannel.
    """
    there = shows_of(connection, channel)
    if said is None:
        return there
    if found := _matching(there, said):
        return found
    newest = "; ".join(show.summary() for show in there[-3:]) or "it has none"
    raise UsageError(f"{channel} has no show {said!r}; the newest are {newest}")


def _matching(there: Sequence[ShowRow], said: str) -> list[ShowRow]:
    if said == "last":
        return list(there[-1:])
    if re.fullmatch(r"\d{1,9}", said):
        return [show for show in there if show.id == int(said)]
    if re.fullmatch(r"\d{4}-\d\d-\d\d", said):
        begin = parse_time(said).astimezone()
        return [show for show in there if show.started_at.astimezone().date() == begin.date()]
    if re.match(r"\d{4}-\d\d-\d\d", said):
        at = parse_time(said)
        now = datetime.now(UTC)
        return [show for show in there if show.started_at <= at < (show.ended_at or now)]
    return [show for show in there if show.title == said]
