"""Variables of an HLS playlist: EXT-X-DEFINE (draft-pantos-hls-rfc8216bis, 4.4.2.3)."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from flows.capture.playlists.tags import attributes_of

_REFERENCE: Final = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")
_MAX_VARIABLES: Final = 100
_MAX_CHARS: Final = 8 * 1024
"""Limit of a text with its variables filled in: nested variables can grow exponentially."""


class Variables:
    """Variables that a playlist defines, imports from its master, or takes from its own URL."""

    def __init__(self, url: str, imported: Mapping[str, str] | None = None) -> None:
        """Begin with no variable. imported: those of the master playlist."""
        self._url, self._imported = url, imported or {}
        self.values: dict[str, str] = {}

    def define(self, value: str) -> None:
        """Read the value of EXT-X-DEFINE; a variable without a value is ignored."""
        found = attributes_of(value)
        if len(self.values) >= _MAX_VARIABLES:
            return
        if name := found.get("NAME"):
            self.values[name] = self.fill(found.get("VALUE", ""))
        elif name := found.get("IMPORT"):
            if name in self._imported:
                self.values[name] = self._imported[name]
        elif name := found.get("QUERYPARAM"):
            given = parse_qs(urlsplit(self._url).query, keep_blank_values=True).get(name)
            if given:
                self.values[name] = given[0]

    def fill(self, text: str) -> str:
        """Return the text with its references replaced; unknown ones stay. Raises ValueError."""
        if not self.values or "{$" not in text:
            return text
        filled = _REFERENCE.sub(lambda found: self.values.get(found[1], found[0]), text)
        if len(filled) > max(_MAX_CHARS, len(text)):
            raise ValueError(f"an address of {len(filled)} characters")
        return filled
