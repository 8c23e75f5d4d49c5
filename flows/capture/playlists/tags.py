"""Lines and tags of an HLS playlist (RFC 8216, 4.1 and 4.2).

Each is read in time proportional to its length, whatever stands there.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

MAX_LINES: Final = 500_000
"""Ten for each segment that a playlist may list."""

_MAX_LINE_CHARS: Final = 16 * 1024
"""Longer lines are cut here: an address may have half as many characters."""

_YEARS: Final = range(1970, 2201)
"""Other years are refused: sums and differences with such dates may overflow."""

DIRT: Final = " \t\r\n\v\f\0\ufeff\u200b\u00a0"
"""Stripped from both ends of a line: spaces, byte order marks, zeros."""

_LINE: Final = re.compile(r"[^\r\n]+")
_ATTRIBUTE: Final = re.compile(r'\s*([A-Z0-9-]+)\s*=\s*("[^"]*"|[^,]*)')
_NUMBER: Final = re.compile(r"\s*(\d{1,19}(?:\.\d{0,19})?)")
_WHOLE_NUMBER: Final = re.compile(r"\s*(\d{1,20})")


def lines_of(text: str) -> Iterator[str]:
    """Give a playlist's lines without the space around them; raises ValueError for too many."""
    for n, found in enumerate(_LINE.finditer(text)):
        if n >= MAX_LINES:
            raise ValueError(f"more than {MAX_LINES} lines")
        end = min(found.end(), found.start() + _MAX_LINE_CHARS)
        line = text[found.start() : end].strip(DIRT)
        if line:
            yield line


def attributes_of(value: str) -> dict[str, str]:
    """Return what a tag's attribute list says, without quotes; the first of a name counts."""
    attributes: dict[str, str] = {}
    at = 0
    while at < len(value):
        if found := _ATTRIBUTE.match(value, at):
            attributes.setdefault(found[1], found[2].strip('" '))
            at = found.end()
        at = value.find(",", at) + 1 or len(value)
    return attributes


def number_of(text: str) -> float:
    """Return the decimal number that a text begins with, 0 where there is none."""
    found = _NUMBER.match(text)
    return float(found[1]) if found else 0.0


def whole_number_of(text: str) -> int:
    """Return the whole number that a text begins with, 0 where there is none."""
    found = _WHOLE_NUMBER.match(text)
    if found and len(found[1]) > 19:  # 64 bits (RFC 8216, 4.2)
        raise ValueError("a number of more than 64 bits")
    return int(found[1]) if found else 0


def parse_date(value: str) -> datetime | None:
    """Read an ISO 8601 date; without a zone it is UTC; None if it is none."""
    try:
        date = datetime.fromisoformat(value.strip())
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        return date if date.year in _YEARS else None
    except (ValueError, OverflowError):
        return None
