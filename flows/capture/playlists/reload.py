"""Blocking playlist reload (RFC 8216bis, 6.2.5.2): a server answers once a segment is listed."""

from typing import Final

from flows.capture.playlists.signing import with_query

_ASKS_FOR: Final = "_HLS_msn"
_DIRECTIVES: Final = "_HLS_"
"""What the names of all delivery directives begin with."""


def asking_for(url: str, sequence: int) -> str:
    """Return a playlist's address that is answered once the segment of this number is listed."""
    base, mark, query = url.partition("?")
    kept = without_directives(query)
    return with_query(f"{base}{mark if kept else ''}{kept}", f"{_ASKS_FOR}={sequence}")


def without_directives(query: str) -> str:
    """Return a query without what is said to the server of the playlist alone."""
    return "&".join(each for each in query.split("&") if not each.startswith(_DIRECTIVES))
