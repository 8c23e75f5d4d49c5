"""Queries of playlists' URLs that what they list may need, too.

Some sites give a token with a playlist's URL alone, and want it with its variants, segments and
keys. So a refused request is repeated with what its server's playlists had in their queries.
"""

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

from flows.capture.playlists.reload import without_directives
from flows.capture.playlists.signing import with_query
from flows.capture.segment import SourceUnreachable

_T = TypeVar("_T")

_REFUSED: Final = (401, 403)
_GONE: Final = (404, 410)
_MAX_PARAMETERS: Final = 50


class PlaylistQueries:
    """The parameters that each server's playlists had, the newest values."""

    def __init__(self) -> None:
        """Nothing was fetched yet."""
        self._known: dict[str, dict[str, str]] = {}
        self._needed_by: set[str] = set()
        self._open: set[str] = set()
        """Servers that need them, and servers that sent something without."""

    def note(self, url: str) -> None:
        """Note a playlist's URL."""
        parts = urlsplit(url)
        known = self._known.setdefault(parts.netloc, {})
        for each in filter(None, without_directives(parts.query).split("&")):
            if len(known) < _MAX_PARAMETERS or _name(each) in known:
                known[_name(each)] = each

    def fetch(self, url: str, fetch: Callable[[str], _T]) -> _T:
        """Fetch a URL; where that needs it, with the parameters of its server's playlists."""
        server = urlsplit(url).netloc
        lacking = self._lacking(url)
        if not lacking or server in self._needed_by:
            return fetch(with_query(url, lacking))
        try:
            found = fetch(url)
        except SourceUnreachable as e:
            is_refused = e.status in _REFUSED or (e.status in _GONE and server not in self._open)
            if not is_refused:
                raise
        else:
            self._open.add(server)
            return found
        found = fetch(with_query(url, lacking))
        self._needed_by.add(server)
        return found

    def _lacking(self, url: str) -> str:
        parts = urlsplit(url)
        there = {_name(each) for each in parts.query.split("&")}
        known = self._known.get(parts.netloc, {})
        return "&".join(each for name, each in known.items() if name not in there)


def _name(parameter: str) -> str:
    return parameter.partition("=")[0]
