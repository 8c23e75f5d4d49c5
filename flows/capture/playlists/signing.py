"""Queries that sign what a playlist lists, where its page or its own address has them apart."""

from dataclasses import dataclass, field, replace

from flows.capture.playlists.playlist import Playlist


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """The queries of segments and keys, as a page gave them; keys by default as segments."""

    segments: str = field(default="", repr=False)
    keys: str = field(default="", repr=False)

    def sign(self, playlist: Playlist) -> Playlist:
        """Return a playlist whose addresses have it."""
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
    """Return an address with what its site wants after the ?."""
    if not query:
        return url
    base, fragment_mark, fragment = url.partition("#")
    joined = f"{base}{'&' if '?' in base else '?'}{query.lstrip('?&')}"
    return f"{joined}{fragment_mark}{fragment}"
