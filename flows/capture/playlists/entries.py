"""Entries of an HLS playlist: segments, their byte ranges and their encryption."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from flows.capture.playlists.cues import Cue

_ENDING: Final = re.compile(r"\.\w{1,5}(\?.*)?$")
"""A suffix, and a query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The key that segments are encrypted with.

    method: as in the playlist; AES-128 is CBC with PKCS7. iv: None stands for the sequence number.
    form: KEYFORMAT; "identity" is the key itself, any other needs a licence (DRM).
    """

    method: str
    url: str
    iv: bytes | None
    form: str = "identity"

    @property
    def can_decrypt(self) -> bool:
        """Whether the key's bytes are enough to decrypt."""
        return self.method == "AES-128" and self.form == "identity"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file, or `length` bytes of it from `offset`; length None: the whole file.

    key: of an initialisation section that may be encrypted (RFC 8216, 4.3.2.4).
    """

    url: str
    offset: int = 0
    length: int | None = None
    key: Key | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A media segment in a playlist.

    media: its file, by absolute URL. sequence: its media sequence number. duration_s: of EXTINF.
    date: aware UTC, of its first sample; None without EXT-X-PROGRAM-DATE-TIME. dated: the date is
    in its own tag, not added up from lengths. init: its initialisation section (fMP4), or tables
    (MPEG-TS); names_init: EXT-X-MAP is right before it. missing: the source has no file for it
    (EXT-X-GAP). cue: the advertisement cue before it. query: of its URL, what tells it from others
    of its playlist whose paths are the same; empty where the path does.
    """

    media: Part
    sequence: int
    duration_s: float
    date: datetime | None
    discontinuity: bool
    init: Part | None
    key: Key | None
    missing: bool = False
    names_init: bool = False
    dated: bool = False
    cue: Cue | None = None
    query: str = ""

    @property
    def url(self) -> str:
        """The URL of its file."""
        return self.media.url

    @property
    def map_url(self) -> str | None:
        """The URL of its initialisation section's file."""
        return self.init.url if self.init else None

    @property
    def whole(self) -> bool:
        """Whether it is a whole file, neither a byte range nor encrypted."""
        ranged = self.media.length is not None or (self.init and self.init.length is not None)
        return not ranged and self.key is None

    @property
    def end(self) -> datetime | None:
        """The date of its end, aware UTC."""
        return self.date and self.date + timedelta(seconds=self.duration_s)


def ends_within(entries: Sequence[Entry]) -> bool:
    """Return whether the last entry's address seems to be cut off, as those before it are longer.

    For a playlist without a newline at its end: it may have been read while it was written.
    """
    *before, last = [entry.url for entry in entries[-4:]] or [""]
    if not before:
        return False
    if len(last) < min(map(len, before)):
        return True
    endings = {found[0] for url in before if (found := _ENDING.search(url))}
    return len(before) > 1 and len(endings) == 1 and not last.endswith(endings.pop())


def once_each(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries without those that repeat the one before them, as some packagers list.

    One counts as repeated if its date is given again, or if every second entry is such.
    """
    again = [
        n
        for n, (before, entry) in enumerate(pairwise(entries), 1)
        if entry.media == before.media and not entry.discontinuity
    ]
    if again != list(range(1, len(entries), 2)) or len(entries) % 2:
        again = [n for n in again if entries[n].dated and entries[n].date == entries[n - 1].date]
    left_out = set(again)
    return [entry for n, entry in enumerate(entries) if n not in left_out]


def told_apart(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries; those that only their queries tell apart (`seg.ts?n=1`) with these.

    What the queries of all of them have, as a signature of the playlist's, is left out.
    """
    of_path: dict[tuple[str, int], list[int]] = defaultdict(list)
    for n, entry in enumerate(entries):
        of_path[entry.url.partition("?")[0], entry.media.offset].append(n)
    found = list(entries)
    for places in of_path.values():
        if len({entries[n].url for n in places}) < 2:
            continue
        said = [entries[n].url.partition("?")[2].split("&") for n in places]
        shared = set(said[0]).intersection(*said[1:])
        for n, parts in zip(places, said, strict=True):
            own = "&".join(part for part in parts if part not in shared)
            found[n] = replace(entries[n], query=own)
    return tuple(found)


def published_in(entries: tuple[Entry, ...], since_s: float) -> tuple[Entry, ...]:
    """Return the newest entry, and those published at most so many seconds ago."""
    n, ago_s = 1, entries[-1].duration_s
    while n < len(entries) and ago_s < since_s:
        n += 1
        ago_s += entries[-n].duration_s
    return entries[-n:]
