"""Lines and tags of an HLS playlist (RFC 8216, 4.1 and 4.2); each is read in linear time."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_LINES: Final = 500_000
"""Ten for each of MAX_ENTRIES."""

_MAX_LINE_CHARS: Final = 16 * 1024
"""Longer lines are cut; URLs are limited to half as many characters."""

_YEARS: Final = range(1970, 2201)
"""Other years are refused: sums with such dates may overflow."""

STRIPPED_CHARS: Final = " \t\r\n\v\f\0\ufeff\u200b\u00a0"
"""Stripped from both ends of a line: spaces, byte order marks, zeros."""

_TAG: Final = "#EXT"
EMPTY: Final = "#EXTM3U"
"""A playlist that lists nothing, as some servers answer with nothing before a show."""

_LINE: Final = re.compile(r"[^\r\n]+")
_ATTRIBUTE: Final = re.compile(r'\s*([A-Za-z0-9-]+)\s*=\s*("[^"]*"|[^,]*)')
_NUMBER: Final = re.compile(r"\s*(\d{1,19}(?:\.\d{0,19})?)")
_WHOLE_NUMBER: Final = re.compile(r"\s*(\d{1,20})")
_UTC: Final = re.compile(r"\s*(?:UTC|GMT|Z)$")
_TWO_ZONES: Final = re.compile(r"([+-]\d\d(?::?\d\d)?)Z$")
_LEAP_SECOND: Final = re.compile(r"(\d\d:\d\d):60(?![\d:])")
_MIDNIGHT: Final = re.compile(r"(?<=[T ])24(:?00)")


def lines_of(text: str) -> Iterator[str]:
    """Yield a playlist's stripped lines; raises ValueError for too many."""
    for n, found in enumerate(_LINE.finditer(text)):
        if n >= MAX_LINES:
            raise ValueError(f"more than {MAX_LINES} lines")
        end = min(found.end(), found.start() + _MAX_LINE_CHARS)
        line = text[found.start() : end].strip(STRIPPED_CHARS)
        if line:
            yield line


def is_playlist(text: str) -> bool:
    """Return whether a text is an HLS playlist: its first tag may follow comments."""
    for line in lines_of(text[:_MAX_LINE_CHARS]):
        if line[: len(_TAG)].upper() == _TAG:
            return True
        if not line.startswith("#"):
            return False
    return False


def attributes_of(value: str) -> dict[str, str]:
    """Return a tag's attributes, without quotes; the first of a repeated name counts.

    Names are in capitals, however they are written.
    """
    attributes: dict[str, str] = {}
    at = 0
    while at < len(value):
        if found := _ATTRIBUTE.match(value, at):
            attributes.setdefault(found[1].upper(), found[2].strip('" '))
            at = found.end()
        at = value.find(",", at) + 1 or len(value)
    return attributes


def number_of(text: str) -> float:
    """Return the decimal number at the beginning of a text, else 0."""
    found = _NUMBER.match(text)
    return float(found[1]) if found else 0.0


def whole_number_of(text: str) -> int:
    """Return the integer at the beginning of a text, else 0; ValueError above 64 bits."""
    found = _WHOLE_NUMBER.match(text)
    if found and len(found[1]) > 19:  # 64 bits (RFC 8216, 4.2)
        raise ValueError("a number of more than 64 bits")
    return int(found[1]) if found else 0


def parse_date(value: str) -> datetime | None:
    """Parse an ISO 8601 date, UTC if it has no zone; None if it is malformed.

    Also quoted, in lower case, with "UTC" or a space before its zone, a leap second, or 24:00.
    """
    text = _TWO_ZONES.sub(r"\1", _UTC.sub("Z", value.strip(' \t"').upper()))
    late = timedelta(0)
    if _LEAP_SECOND.search(text):
        text, late = _LEAP_SECOND.sub(r"\1:59", text), timedelta(seconds=1)
    elif _MIDNIGHT.search(text):
        text, late = _MIDNIGHT.sub(r"00\1", text), timedelta(days=1)
    try:
        date = datetime.fromisoformat(text) + late
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        return date if date.year in _YEARS else None
    except (ValueError, OverflowError):
        return None
