"""A live playlist's address: found through its master playlist, and checked."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.drm import require_open
from flows.capture.playlists.playlist import Playlist, Variant
from flows.capture.playlists.reload import blocking_reload_url
from flows.capture.playlists.renditions import Rendition, choose_audio
from flows.capture.quality import Quality, in_order
from flows.capture.redaction import shorten
from flows.capture.segment import CaptureError, NoStream, NotWatchable, SourceUnreachable
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)

_GONE: Final = (400, 401, 403, 404, 410)
"""Status codes of servers where a session has ended, or a signed address has expired."""

_FAILURES: Final = 2
"""Other failures in a row after which the master playlist may have another address."""

_STANDS_STEPS: Final = 3.0
"""Target durations without a new segment after which it may, too."""

_ASK_AGAIN_S: Final = 2.0
_MAX_ASK_AGAIN_S: Final = 30.0
"""Seconds at least between two looks at the master playlist, and after many that did not help."""

_TRY_S: Final = 10.0
"""Seconds after which no further variant is tried."""


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
        self._left: set[str] = set()
        self._failures, self._ask_master_at, self._ask_again_s = 0, 0.0, _ASK_AGAIN_S
        self._newest, self._grew_at = "", time.monotonic()
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
            if self._is_first:
                self._take_variables()
            playlist = self._follow(self.url)
        except (SourceUnreachable, NoStream) as e:
            self._failures += 1
            if not self._may_have_moved(e):
                raise
            playlist = self._find_another(e)
        else:
            if not self._is_first and self._stands(playlist):
                playlist = self._moved() or playlist
            else:
                self._ask_again_s = _ASK_AGAIN_S
        self._failures = 0
        if self._is_first:
            require_open(playlist, self._stream.page_url)
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
                self._follow(self._master)
        if self.url in self._unusable:
            raise NotWatchable(f"{self._stream.page_url}: no picture in this stream, only sound")

    def leave(self) -> bool:
        """Take another variant of the same size from now on, as this one's segments don't come.

        Returns whether the master playlist has one that was not left yet, and that comes.
        """
        if not self._master or not self._may_ask_master():
            return False
        self._left.add(self.url)
        before = self.url, self._variables
        with suppress(CaptureError):
            master = self._get(self._master)
            twins = self._twins(self._choose(master.offers), self.url)
            if offers := [each for each in twins if each.url not in self._left]:
                self._keep_master(self._master, master)
                self._take_first(offers)
                _log.warning("no segment comes: another variant is taken")
                return True
        self.url, self._variables = before
        self._left.clear()
        return False

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

    def _take_variables(self) -> None:
        """Take what the master playlist defines, if that was read to find the stream."""
        master = self._stream.master
        if master is not None and master.url != self.url:
            with suppress(NoStream):
                self._variables = self.fetcher.read_playlist(master).variables

    def _follow(self, url: str) -> Playlist:
        playlist = self._get(url)
        if not playlist.offers:
            self.url = url
            return playlist
        self._keep_master(url, playlist)
        return self._take_first(self._choose(playlist.offers))

    def _keep_master(self, url: str, playlist: Playlist) -> None:
        self.fetcher.check(playlist.urls)
        self._master, self._variables = url, playlist.variables
        self._offered = playlist

    def _take_first(self, offers: Sequence[Variant]) -> Playlist:
        """Return the first variant that answers with a playlist; raises the first one's error."""
        error: CaptureError | None = None
        ends_at = time.monotonic() + _TRY_S
        for offer in offers:
            if error is not None and time.monotonic() > ends_at:
                break
            try:
                return self._take(offer.url)
            except (SourceUnreachable, NoStream) as e:
                if _must_wait(e):
                    raise
                error = error or e
                if len(offers) > 1:
                    _log.warning("%s; the next variant is taken", e)
        assert error is not None
        raise error

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

    def _may_have_moved(self, error: SourceUnreachable | NoStream) -> bool:
        """Return whether to ask the master playlist after this failure."""
        if not self._master or isinstance(error, NotWatchable) or _must_wait(error):
            return False
        if self._is_first or getattr(error, "status", None) in _GONE:
            return True
        return self._failures >= _FAILURES and self._may_ask_master()

    def _may_ask_master(self) -> bool:
        now = time.monotonic()
        if now < self._ask_master_at:
            return False
        self._ask_master_at = now + self._ask_again_s
        self._ask_again_s = min(2 * self._ask_again_s, _MAX_ASK_AGAIN_S)
        return True

    def _find_another(self, error: SourceUnreachable | NoStream) -> Playlist:
        """Return another playlist of the master playlist; raises the error if it has none.

        Where the address may only be failing for now, none of another size is taken.
        """
        before = self.url
        is_gone = self._is_first or getattr(error, "status", None) in _GONE
        try:
            master = self._get(self._master)
            if not master.offers:  # it has become the media playlist itself
                self.url = self._master
                return master
            self._keep_master(self._master, master)
            offers = self._choose(master.offers)
            own = next((each for each in offers if each.url == before), None)
            if own is not None and not is_gone:
                offers = [each for each in self._twins(offers, before) if each is not own]
            elif own is not None and len(offers) > 1 and self._is_first:
                offers = [v for v in offers if v is not own]  # it has just failed
            if not offers:
                raise error
            playlist = self._take_first(offers)
        except (SourceUnreachable, NoStream):
            raise error from None
        if self.url != before:
            _log.warning("the source's playlist has moved: its new address is used")
        return playlist

    @staticmethod
    def _twins(offers: list[Variant], url: str) -> list[Variant]:
        """Return the offers that are as large as the one with this URL; all if it is not there."""
        sizes = {(each.width_px, each.height_px) for each in offers if each.url == url}
        return [v for v in offers if not sizes or (v.width_px, v.height_px) in sizes]

    def _stands(self, playlist: Playlist) -> bool:
        """Return whether a playlist has ended, is empty, or has had nothing new for a while."""
        now = time.monotonic()
        newest = playlist.entries[-1].url if playlist.entries else ""
        if newest != self._newest:
            self._newest, self._grew_at = newest, now
        stands_s = now - self._grew_at
        return playlist.ended or not newest or stands_s > _STANDS_STEPS * (playlist.target_s or 2.0)

    def _moved(self) -> Playlist | None:
        """Return the playlist that the master playlist names in its place; None if it does not."""
        if not self._master or not self._may_ask_master():
            return None
        before = self.url, self._variables
        with suppress(CaptureError):
            master = self._get(self._master)
            if master.offers and self.url not in master.variants:
                self._keep_master(self._master, master)
                playlist = self._take_first(self._choose(master.offers))
                _log.warning("the source's playlist has moved: its new address is used")
                return playlist
        self.url, self._variables = before
        return None

    def _choose(self, offers: tuple[Variant, ...]) -> list[Variant]:
        found = [v for v in in_order(offers, self._quality) if v.url not in self._unusable]
        if not found:
            raise NotWatchable(f"{self._stream.page_url}: no picture in this stream, only sound")
        return found


def _must_wait(error: CaptureError) -> bool:
    return isinstance(error, SourceUnreachable) and error.backoff_s > 0
