"""Dates of a DASH manifest's timestamps (ISO/IEC 23009-1, 5.3.2, 5.3.9).

A period's start counts from availabilityStartTime; presentationTimeOffset is the timestamp at the
period's start.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError

from flows.capture.playlists.tags import parse_date

_DURATION: Final = TypeAdapter(timedelta)
_DURATION_FORM: Final = re.compile(r"P[0-9.DTHMS]{2,40}")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


def starts_of(mpd: ET.Element) -> dict[ET.Element, datetime]:
    """Return the start of each period, aware UTC, as far as a live manifest defines it."""
    begins = parse_date(mpd.get("availabilityStartTime", ""))
    if begins is None or mpd.get("type") != "dynamic":
        return {}
    found: dict[ET.Element, datetime] = {}
    after: timedelta | None = timedelta(0)
    for period in mpd.findall("Period"):
        start = _duration(period.get("start", "")) if period.get("start") else after
        length = _duration(period.get("duration", ""))
        after = None if start is None or length is None else start + length
        try:
            if start is not None:
                found[period] = begins + start
        except OverflowError:
            continue
    return found


def origin_of(start: datetime | None, sources: Sequence[ET.Element]) -> datetime | None:
    """Return the date of a representation's timestamp 0, aware UTC.

    start: of its period. sources: its SegmentTemplates or SegmentLists, the nearest first.
    """
    if start is None:
        return None
    offset, scale = (
        next((int(v) for e in sources if _WHOLE.fullmatch(v := e.get(key, ""))), usual)
        for key, usual in (("presentationTimeOffset", 0), ("timescale", 1))
    )
    try:
        return start - timedelta(seconds=offset / max(1, scale))
    except OverflowError:
        return None


def _duration(text: str) -> timedelta | None:
    try:
        return _DURATION.validate_python(text) if _DURATION_FORM.fullmatch(text) else None
    except ValidationError:
        return None
