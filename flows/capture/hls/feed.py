"""A live playlist's address: followed through a master playlist, refused where it may not lead."""

from typing import Final

from flows.capture.net.fetch import Fetcher
from flows.capture.playlist import Playlist, choose_variant
from flows.capture.segment import NoStream

_DEEPEST: Final = 2
"""A master playlist leads to a media playlist, and not to another and another."""


class Feed:
    """Fetches one media playlist, again and again."""

    def __init__(self, url: str, fetcher: Fetcher) -> None:
        """Remember; nothing is fetched yet."""
        self.url = url
        self._fetcher = fetcher

    def load(self) -> Playlist:
        """Return the playlist as it is now; raises as `Fetcher.get_playlist`, and UnsafeURL."""
        for _ in range(_DEEPEST):
            playlist = self._fetcher.get_playlist(self.url)
            if not playlist.offers:
                return playlist
            self._fetcher.check(playlist.urls)
            self.url = choose_variant(playlist.offers).url
        raise NoStream(f"{self.url}: a master playlist that leads to another master playlist")
