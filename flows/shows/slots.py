"""A show's slots: its times on air, as cron or rrule in a time zone, as in Prefect."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrulestr

from flows.errors import UsageError

ANCHOR: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - local time, as RFC 5545 has it
"""Start of an rrule without DTSTART, as in Prefect (`to_rrule` of its schedules)."""


DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
"""Day names by cron's numbers 0 to 7."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """When a show is on air.

    slug: unique among a show's slots. cron, rrule: exactly one is set. zone: IANA name.
    """

    slug: str
    zone: str
    cron: str | None = None
    rrule: str | None = None
    active: bool = True

    @classmethod
    def of(
        cls,
        *,
        slug: str,
        cron: str | None = None,
        rrule: str | None = None,
        timezone: str | None = None,
        active: bool = True,
    ) -> Self:
        """Check the values; raises UsageError, one line that says how to write them."""
        if (cron is None) == (rrule is None):
            raise UsageError("a slot has either a cron or an rrule")
        zone = timezone or "UTC"
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as e:
            raise UsageError(
                f"timezone: {zone!r} is unknown; write it as Europe/Vienna or UTC"
            ) from e
        if cron is not None:
            _check_cron(cron)
        if rrule is not None:
            _check_rrule(rrule)
        return cls(slug=slug, zone=zone, cron=cron, rrule=rrule, active=active)

    @property
    def summary(self) -> str:
        """Return the cron or rrule and the zone, on one line."""
        return f"{self.cron or (self.rrule or '').splitlines()[-1]} {self.zone}"

    @property
    def in_words(self) -> str:
        """Return a simple cron as "Mon-Fri 20:00 Europe/Berlin"; else the summary."""
        fields = (self.cron or "").split()
        if len(fields) == 5 and fields[2:4] == ["*", "*"] and all(map(str.isdecimal, fields[:2])):
            days = re.fullmatch(r"\*|[0-7]([-,][0-7])*", fields[4])
            if days is not None:
                named = re.sub(r"[0-7]", lambda day: DAYS[int(day[0])], fields[4])
                time = f"{int(fields[1]):02}:{int(fields[0]):02}"
                return f"{'daily' if named == '*' else named} {time} {self.zone}"
        return self.summary

    def starts(self, after: datetime) -> Iterator[datetime]:
        """Yield the starts after an aware time, in order, in the slot's zone."""
        zone = ZoneInfo(self.zone)
        if self.cron is not None:
            yield from CronSim(self.cron, after.astimezone(zone))
            return
        # Compute in local time, add the zone afterwards: 20:00 stays 20:00 when clocks change.
        local = after.astimezone(zone).replace(tzinfo=None) - timedelta(hours=2)
        for moment in rrulestr(self.rrule, dtstart=ANCHOR).xafter(local, inc=True):
            if moment.replace(tzinfo=zone) > after:
                yield moment.replace(tzinfo=zone)

    def next_start(self, after: datetime | None = None) -> datetime | None:
        """Return the first start after an aware time (now by default); None after the last."""
        return next(islice(self.starts(after or datetime.now(UTC)), 1), None)


def _check_cron(text: str) -> None:
    try:
        fields = len(text.split())
        if fields != 5:
            raise CronSimError(f"{fields} fields, not 5")
        next(CronSim(text, datetime.now(UTC)))
    except CronSimError as e:
        raise UsageError(
            f"cron: {text!r} is invalid ({e}); write it as '0 20 * * 1-5': minute, hour, day, "
            "month, day of week"
        ) from e
    except StopIteration as e:
        raise UsageError(f"cron: {text!r} never occurs") from e


def _check_rrule(text: str) -> None:
    try:
        rrulestr(text, dtstart=ANCHOR)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(
            f"rrule: {text!r} is invalid ({e}); write it as 'RRULE:FREQ=WEEKLY;BYDAY=SA;BYHOUR=21;"
            "BYMINUTE=30', after a line DTSTART:20260103T213000 if it matters when it began"
        ) from e
