"""Addresses in a playlist, made absolute and encoded; bounded in all."""

import re
from typing import Final
from urllib.parse import quote, urljoin

from flows.capture.playlists.variables import Variables

MAX_ADDRESS_CHARS: Final = 24 * 1024 * 1024
"""Limit of all absolute URLs in a playlist together."""

DATA: Final = "data:"
"""Begins a key or an initialisation section that the playlist contains itself (RFC 2397)."""

_ODD: Final = re.compile(r"[^!-~]|[\"<>^`{|}\\]")
_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_AS_THEY_ARE: Final = "!#$%&'()*+,-./:;=?@[]_~"
"""Characters of URLs that are not percent-encoded (RFC 3986, 2.2)."""


class Addresses:
    """Locates what a playlist names. most_shared: of the names that segments share."""

    def __init__(self, base_url: str, variables: Variables, *, most_shared: int) -> None:
        """Keep the arguments. base_url: where the playlist came from."""
        self._base, self._variables, self._most_shared = base_url, variables, most_shared
        self._shared: dict[str, str] = {}
        self._n_chars = 0

    def locate(self, address: str) -> str:
        """Return an address as an absolute URL, spaces and the like encoded.

        Raises ValueError for one that is none, and for too much.
        """
        url = urljoin(self._base, self._variables.fill(address))
        if _ODD.search(url):
            where = _PATH.match(url)
            at = where.end() if where else 0
            url = url[:at] + quote(url[at:], safe=_AS_THEY_ARE)
        self._n_chars += len(url)
        if self._n_chars > MAX_ADDRESS_CHARS:
            raise ValueError(f"addresses of more than {MAX_ADDRESS_CHARS} characters in all")
        return url

    def locate_shared(self, address: str) -> str:
        """Return the URL of what many segments share: a key, an initialisation section."""
        if address not in self._shared:
            if len(self._shared) >= self._most_shared:
                raise ValueError(f"more than {self._most_shared} keys and maps")
            self._shared[address] = self.locate(address)
        return self._shared[address]
