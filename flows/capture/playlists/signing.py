"""Signing queries that a page gives apart, and that are added to the URLs of a playlist."""

from dataclasses import dataclass, field, replace

from flows.capture.playlists.addresses import DATA
from flows.capture.playlists.playlist import Playlist


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """The queries for segments and keys, as a page gave them; keys default to segments'."""

    segments: str = field(default="", repr=False)
    keys: str = field(default="", repr=False)

    def sign(self, playlist: Playlist) -> Playlist:
        """Return the playlist with the queries added to its URLs."""
        if not self.segments and not self.keys:
            return playlist
        entries = []
        for entry in playlist.entries:
            media = replace(entry.media, url=with_query(entry.media.url, self.segments))
            init = entry.init and replace(entry.init, url=with_query(entry.init.url, self.segments))
            key = entry.key and replace(
                entry.key, url=with_query(entry.key.url, self.keys or self.segments)
            )
            entries.append(replace(entry, media=media, init=init, key=key))
        return replace(playlist, entries=tuple(entries))


def with_query(url: str, query: str) -> str:
    """Return the URL with the query added to its own; it replaces parameters of the same names."""
    added = query.lstrip("?&")
    if not added or url.startswith(DATA):
        return url
    rest, fragment_mark, fragment = url.partition("#")
    base, _, own = rest.partition("?")
    names = {each.partition("=")[0] for each in added.split("&")}
    kept = [each for each in own.split("&") if each and each.partition("=")[0] not in names]
    return f"{base}?{'&'.join([*kept, added])}{fragment_mark}{fragment}"
