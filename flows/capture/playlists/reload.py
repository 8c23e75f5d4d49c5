"""Blocking playlist reload (RFC 8216bis, 6.2.5.2): the server answers once a segment is listed."""

from typing import Final

from flows.capture.playlists.signing import with_query

_MEDIA_SEQUENCE: Final = "_HLS_msn"
_DIRECTIVES: Final = "_HLS_"
"""Prefix of all delivery directives in a query."""


def blocking_reload_url(url: str, sequence: int) -> str:
    """Return the playlist's URL that the server answers once this media sequence is listed."""
    base, mark, query = url.partition("?")
    kept = without_directives(query)
    return with_query(f"{base}{mark if kept else ''}{kept}", f"{_MEDIA_SEQUENCE}={sequence}")


def without_directives(query: str) -> str:
    """Return a query without delivery directives, which only the playlist's server may get."""
    return "&".join(each for each in query.split("&") if not each.startswith(_DIRECTIVES))
