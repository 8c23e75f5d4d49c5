"""Finds out which of a source's segments are advertisements, by its playlist."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from flows.capture.playlists.playlist import Entry, Playlist

_MAX_BREAK_S: Final = 600.0
"""Most seconds of a break without an announced end; another host for longer is no break."""

_SLACK_S: Final = 0.5


class Ads:
    """Follows a source's segments in order, with the state of an advertisement break."""

    def __init__(self) -> None:
        """No break was announced yet."""
        self._marks_ads = False
        self._left_s: float | None = None
        self._host: str | None = None
        self._away_s = 0.0
        self._hosts_vary = False

    def begin(self, listed: Iterable[Entry], playlist: Playlist, *, url: str) -> None:
        """Read what is listed before the first segment to record: a break may have begun there.

        url: of the playlist; segments on its host are not advertisements.
        """
        first = [urlsplit(each.url).netloc for each in playlist.entries]
        own = urlsplit(url).netloc
        self._host = own if own in first else None
        self._look(playlist)
        for entry in listed:
            self._of(entry, playlist)

    def hosts_vary(self) -> None:
        """Take note that one segment was listed on several hosts: these tell nothing."""
        self._hosts_vary, self._away_s = True, 0.0

    def of(self, entry: Entry, playlist: Playlist) -> bool | None:
        """Return whether the next segment is an advertisement; None if the source marks none."""
        self._look(playlist)
        return self._of(entry, playlist)

    def _look(self, playlist: Playlist) -> None:
        self._marks_ads |= bool(playlist.breaks) or any(e.cue for e in playlist.entries)

    def _of(self, entry: Entry, playlist: Playlist) -> bool | None:
        cued = self._by_cue(entry)
        away = self._by_host(entry)
        ranged = False
        if entry.date is not None:
            middle = entry.date + timedelta(seconds=entry.duration_s / 2)
            ranged = any(b.start <= middle < b.end for b in playlist.breaks)
        if cued or away or ranged:
            self._marks_ads = True
            return True
        return False if self._marks_ads else None

    def _by_cue(self, entry: Entry) -> bool:
        if entry.cue is not None:
            if entry.cue.kind == "in":
                self._left_s = None
            elif entry.cue.left_s is not None or self._left_s is None:
                self._left_s = entry.cue.left_s or _MAX_BREAK_S
        if self._left_s is None:
            return False
        if self._left_s <= _SLACK_S:
            self._left_s = None
            return False
        self._left_s -= entry.duration_s
        return True

    def _by_host(self, entry: Entry) -> bool:
        """Return whether it is on another host since a discontinuity."""
        if self._hosts_vary:
            return False
        host = urlsplit(entry.url).netloc
        if self._host is None or host == self._host:
            self._host, self._away_s = host, 0.0
            return False
        if not (entry.discontinuity or self._away_s):
            self._host = host  # It has moved.
            return False
        self._away_s += entry.duration_s
        if self._away_s > _MAX_BREAK_S:
            self._host, self._away_s = host, 0.0
        return self._away_s > 0
