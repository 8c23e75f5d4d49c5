"""A live playlist's address: found through its master playlist, and checked."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Key, Playlist, Variant
from flows.capture.playlists.reload import blocking_reload_url
from flows.capture.playlists.renditions import Rendition, choose_audio
from flows.capture.quality import Quality, in_order
from flows.capture.redaction import shorten
from flows.capture.segment import NoStream, NotWatchable, SourceUnreachable
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)

_MAX_DEPTH: Final = 2
"""Most playlists to follow: a master playlist and its media playlist."""

_DRM_SYSTEMS: Final = {
    "com.apple.streamingkeydelivery": "FairPlay",
    "com.microsoft.playready": "PlayReady",
    "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95": "PlayReady",
    "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed": "Widevine",
}
"""By KEYFORMAT."""

_GONE: Final = (401, 403, 404, 410)
"""Status codes of servers where a session has ended, or a signed address has expired."""


class Feed:
    """Polls one media playlist; takes another of its master playlist if that is gone.

    fetcher: used from the next load on; may be set between loads.
    """

    def __init__(self, stream: Stream, fetcher: Fetcher, quality: Quality | None = None) -> None:
        """Keep the arguments; nothing is fetched yet."""
        self.url = stream.url
        self._master = stream.master_url
        self._stream, self.fetcher = stream, fetcher
        self._quality = quality or Quality()
        self._variables: Mapping[str, str] = {}
        self._is_first = True
        self._unusable: set[str] = set()
        self._offered: Playlist | None = None
        self.loaded = stream.loaded
        """The first playlist as it came, until the second is requested."""
        self.asked_at = time.monotonic()
        """When the newest one was requested (monotonic)."""

    def load(self, *, until: int | None = None, held_s: float = 0.0) -> Playlist:
        """Return the playlist as it is now; raises as `Fetcher.get_playlist`, and UnsafeURL.

        until: number of a segment that a blocking reload waits for, at most `held_s` seconds.

        The first one is what was fetched to find the stream, unless a reload is due. The first time
        raises NotWatchable if all segments have an encryption that can't be decrypted.
        """
        if not self._is_first:
            self.loaded = None
        try:
            if until is not None:
                return self._wait_for(until, held_s)
            playlist = self._follow(self.url)
        except SourceUnreachable as e:
            if not self._master or e.status not in _GONE:
                raise
            playlist = self._find_another(e)
        if self._is_first:
            _require_open(playlist, self._stream.page_url)
            self._is_first = False
        return playlist

    def begin_again(self) -> None:
        """Return the first playlist once more, if it is the newest and no reload is due."""
        self._is_first = True

    def skip(self) -> None:
        """Take another variant from now on: this one has no video. Raises NotWatchable."""
        self._unusable.add(self.url)
        if self._master:
            _log.warning("%s: only sound; another variant is taken", shorten(self.url))
            with suppress(SourceUnreachable):
                self._find_another(None)
        if self.url in self._unusable:
            raise NotWatchable(f"{self._stream.page_url}: no picture in this stream, only sound")

    def audio(self, language: str) -> Rendition | None:
        """Return the audio with its own playlist; None if it is in the video's segments.

        By the master playlist, if that is known. language: see `choose_audio`.
        """
        if self._offered is None and self._stream.master is not None:
            with suppress(NoStream):
                self._offered = self.fetcher.read_playlist(self._stream.master)
        if self._offered is None or not self._offered.audio:
            return None
        offers = self._offered.offers
        path = urlsplit(self.url).path
        own = [each for each in offers if each.url == self.url]
        own = own or [each for each in offers if urlsplit(each.url).path == path]
        group = own[0].audio if own else ""
        found = choose_audio(self._offered.audio, group=group, language=language)
        return found if found is not None and found.url else None

    def _wait_for(self, sequence: int, held_s: float) -> Playlist:
        loaded = self.fetcher.load(blocking_reload_url(self.url, sequence), held_s=held_s)
        self.asked_at = time.monotonic()
        return self.fetcher.read_playlist(loaded, variables=self._variables)

    def _follow(self, url: str) -> Playlist:
        for _ in range(_MAX_DEPTH):
            playlist = self._get(url)
            if not playlist.offers:
                self.url = url
                return playlist
            self.fetcher.check(playlist.urls)
            self._master, self._variables = url, playlist.variables
            self._offered = playlist
            found = self._choose(playlist.offers)
            for offer in found[:-1]:
                try:
                    return self._take(offer.url)
                except SourceUnreachable as e:
                    if e.status not in _GONE:
                        raise
                    _log.warning("%s; the next variant is taken", e)
            url = found[-1].url
        raise NoStream(f"{url}: a master playlist that leads to another master playlist")

    def _take(self, url: str) -> Playlist:
        playlist = self._get(url)
        if playlist.offers:
            raise NoStream(f"{url}: a master playlist that leads to another master playlist")
        self.url = url
        return playlist

    def _get(self, url: str) -> Playlist:
        if self._is_first and self.loaded is not None:
            found = self.fetcher.read_again(self.loaded, url, variables=self._variables)
            if found is not None:
                self.asked_at = self.loaded.at
                return found
        loaded = self.fetcher.load(url)
        self.asked_at = loaded.at
        playlist = self.fetcher.read_playlist(loaded, variables=self._variables)
        if self._is_first and not playlist.offers:
            self.loaded = loaded
        return playlist

    def _find_another(self, error: SourceUnreachable | None) -> Playlist:
        """Read the master playlist again; raises the error if it has no other."""
        before = self.url
        try:
            playlist = self._follow(self._master)
        except SourceUnreachable:
            if error is None:
                raise
            raise error from None
        if self.url != before:
            _log.warning("the source's playlist has moved: its new address is used")
        return playlist

    def _choose(self, offers: tuple[Variant, ...]) -> list[Variant]:
        found = [v for v in in_order(offers, self._quality) if v.url not in self._unusable]
        if not found:
            raise NotWatchable(f"{self._stream.page_url}: no picture in this stream, only sound")
        return found


def _require_open(playlist: Playlist, page_url: str) -> None:
    keys = {entry.key for entry in playlist.entries}
    closed = sorted({_name_of(key) for key in keys if key is not None and not key.can_decrypt})
    if closed and all(key is not None and not key.can_decrypt for key in keys):
        raise NotWatchable(f"{page_url}: encrypted by {', '.join(closed)}, and cannot be watched")


def _name_of(key: Key) -> str:
    return _DRM_SYSTEMS.get(key.form.lower(), key.method[:40])
