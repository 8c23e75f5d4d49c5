"""The segments that are listed and not recorded yet: fetched ahead, handed on in order."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final, Self
from urllib.parse import urlsplit

from flows.capture.hls.ads import Ads
from flows.capture.hls.listing import Listing
from flows.capture.hls.pending import Pending
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.addresses import DATA
from flows.capture.playlists.playlist import Entry, Playlist
from flows.capture.recorded.recording import Recording

_MAX_LEAD: Final = timedelta(seconds=30)
_COMPARED: Final = 8
"""So many of the newest segments have their hosts compared with those of the next playlist."""


class Queue:
    """Makes `Pending` segments of what is new, and keeps what waits up to date."""

    def __init__(self, recording: Recording, fetcher: Fetcher, *, off_air_at: float = 0.0) -> None:
        """Continue the recording; off_air_at: see `Stream`."""
        self.listing = Listing(recording, off_air_at=off_air_at)
        self._recording, self._off_air_at = recording, off_air_at
        self._ads, self._fetcher = Ads(), fetcher
        self._period = 0
        self._before: Entry | None = None
        self._lead = timedelta(0)
        self._is_first = True
        self._n_unsure = 0
        self._hosts: dict[int, str] = {}

    def afresh(self) -> Self:
        """Return one for another playlist of the same show."""
        return type(self)(self._recording, self._fetcher, off_air_at=self._off_air_at)

    def look(self, playlist: Playlist, waiting: Iterable[Pending]) -> tuple[Entry, ...]:
        """Return a playlist's new entries, and update waiting segments; raises UnsafeURL."""
        new = self.listing.find_new(playlist.entries, numbered=playlist.numbered)
        self._follow(waiting, playlist.entries)
        self._compare_hosts()
        return new

    def _compare_hosts(self) -> None:
        """Tell whether segments were listed on other hosts before: then these mean nothing."""
        newest = list(self.listing.places())[-_COMPARED:]
        hosts = {place: urlsplit(entry.url).netloc for place, entry in newest}
        if any(self._hosts.get(place, host) != host for place, host in hosts.items()):
            self._ads.hosts_vary()
        self._hosts = hosts

    def _follow(self, waiting: Iterable[Pending], entries: tuple[Entry, ...]) -> None:
        """Update waiting segments' addresses, and whether they are still listed."""
        urls: set[str] | None = None
        for item in waiting:
            now = self.listing.at(item.place)
            if now is None:
                urls = urls or {entry.url for entry in entries}
                item.listed = item.entry.url in urls
                continue
            item.listed = True
            if (now.media, now.init, now.key) == (
                item.entry.media,
                item.entry.init,
                item.entry.key,
            ):
                continue
            self._check([now])
            item.entry = replace(item.entry, media=now.media, init=now.init, key=now.key)
            item.missing = 0

    def add(self, playlist: Playlist, new: tuple[Entry, ...], *, url: str) -> list[Pending]:
        """Return new entries as segments to fetch; call it before `Listing.advance`.

        url: of the playlist.
        """
        self._check(new)
        if self._is_first:
            before = takewhile(lambda entry: entry is not new[0], playlist.entries)
            self._ads.begin(before, playlist, url=url)
            self._is_first = False
        repeats = self.listing.sequence is None
        self._n_unsure += 1
        places = {id(entry): place for place, entry in self.listing.places()}
        arrival = datetime.now(UTC) - sum(
            (timedelta(seconds=entry.duration_s) for entry in new), timedelta(0)
        )
        items: list[Pending] = []
        for entry in new:
            self._count_period(entry)
            items.append(
                Pending(
                    entry=entry,
                    arrival=arrival,
                    follows=bool(items) or self.listing.follows,
                    repeats=repeats,
                    unsure=self._n_unsure if self.listing.unsure else 0,
                    place=places.get(id(entry), -1),
                    period=self._period,
                    is_ad=self._ads.of(entry, playlist),
                )
            )
            arrival += timedelta(seconds=entry.duration_s)
        return items

    def lead_in(self, first: Pending) -> Pending | None:
        """Return what to record before a first segment without a leading keyframe, if listed.

        The newest segment before it, as long as none begins with a keyframe.
        """
        if first.extent is None or first.extent.begins_with_key or self._lead >= _MAX_LEAD:
            return None
        entry = self.listing.at(first.place - 1)
        if entry is None or first.entry.discontinuity or entry.missing:
            return None
        self._check([entry])
        length = timedelta(seconds=entry.duration_s)
        self._lead += max(length, timedelta(seconds=1))
        first.follows = True
        return replace(
            first,
            entry=entry,
            arrival=first.arrival - length,
            follows=False,
            place=first.place - 1,
            path=None,
            extent=None,
            head_bytes=None,
        )

    def _check(self, entries: Iterable[Entry]) -> None:
        """Refuse addresses that may not be fetched; raises UnsafeURL."""
        for entry in entries:
            more = (entry.map_url or "", entry.key.url if entry.key else "")
            self._fetcher.check([entry.url, *(u for u in more if u and not u.startswith(DATA))])

    def _count_period(self, entry: Entry) -> None:
        """Count where the same address may have another initialisation section.

        If it is named before each segment, it is fetched again only at a discontinuity, or when a
        segment can't be read.
        """
        before = self._before
        named = entry.names_init and before is not None and not before.names_init
        if before is not None and (entry.discontinuity or named):
            self._period += 1
        self._before = entry
