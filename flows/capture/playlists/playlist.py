"""HLS playlists (RFC 8216): what they list, and when it was on air.

Not a library's parser: here one bad tag does not lose the playlist, a discontinuity ends a date,
and memory is bounded for hostile playlists.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from flows.capture.playlists.addresses import DATA, MAX_ADDRESS_CHARS, Addresses
from flows.capture.playlists.cues import Break, Cues
from flows.capture.playlists.entries import (
    Entry,
    Key,
    Part,
    ends_within,
    once_each,
    told_apart,
)
from flows.capture.playlists.renditions import Rendition, rendition_of
from flows.capture.playlists.tags import (
    attributes_of,
    is_playlist,
    lines_of,
    number_of,
    parse_date,
    whole_number_of,
)
from flows.capture.playlists.timing import oldest_first, target_of, timed
from flows.capture.playlists.variables import Variables
from flows.capture.quality import Offer, Quality, in_order
from flows.capture.segment import NoStream

__all__ = [
    "MAX_ADDRESS_CHARS",
    "MAX_ENTRIES",
    "MAX_PLAYLIST_BYTES",
    "Entry",
    "Key",
    "Part",
    "Playlist",
    "Variant",
    "choose_variant",
    "parse_playlist",
]

MAX_PLAYLIST_BYTES: Final = 16 * 1024 * 1024
"""Twelve hours of segments of 5 s, with signed URLs of 1,500 characters, fill two thirds of it."""

MAX_ENTRIES: Final = 50_000
"""Limit of segments and variants, and of keys and maps; more than a day of segments of 2 s."""

MAX_SEGMENT_S: Final = 600.0

_MAX_RENDITIONS: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant(Offer):
    """A media playlist that a master playlist offers. audio: the group of its audio."""

    url: str
    audio: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Playlist:
    """A media playlist (`entries`) or a master playlist (`offers`).

    sequence: of the first entry. target_s: the longest segment, rounded. ended: nothing will be
    added (EXT-X-ENDLIST). keys: URLs of the segments' keys. variables: a master playlist's
    definitions. breaks: advertisements, by date ranges. numbered: it has an EXT-X-MEDIA-SEQUENCE.
    can_block_reload: CAN-BLOCK-RELOAD, see `reload.py`. audio: a master playlist's renditions.
    """

    entries: tuple[Entry, ...]
    offers: tuple[Variant, ...]
    keys: tuple[str, ...]
    sequence: int
    target_s: float
    ended: bool
    variables: Mapping[str, str] = field(default_factory=dict)
    breaks: tuple[Break, ...] = ()
    numbered: bool = True
    can_block_reload: bool = False
    audio: tuple[Rendition, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """The URLs of a master playlist's media playlists."""
        return tuple(variant.url for variant in self.offers)

    @property
    def urls(self) -> set[str]:
        """The URLs that a player would fetch, without audio, which is checked on its request."""
        maps = {url for e in self.entries if (url := e.map_url) and not url.startswith(DATA)}
        return {entry.url for entry in self.entries} | maps | {*self.variants, *self.keys}


def choose_variant(offers: tuple[Variant, ...], quality: Quality | None = None) -> Variant:
    """Return the variant to record; one without a picture only where there is no other."""
    return next(iter(in_order(offers, quality or Quality())), offers[0])


def parse_playlist(
    text: str, base_url: str, variables: Mapping[str, str] | None = None
) -> Playlist:
    """Parse a playlist fetched from `base_url`; lengths and dates are corrected by `timing.timed`.

    variables: of its master playlist. Raises NoStream for text that is not a valid playlist.
    """
    if not is_playlist(text):
        raise NoStream(f"{base_url}: not an HLS playlist")
    try:
        return _Parser(base_url, variables).read(text)
    except (ValueError, OverflowError) as e:
        raise NoStream(f"{base_url}: a broken HLS playlist ({e})") from e


class _Parser:
    def __init__(self, base_url: str, variables: Mapping[str, str] | None) -> None:
        self._variables, self._cues = Variables(base_url, variables), Cues()
        self._numbered = self._can_block_reload = False
        self._audio: list[Rendition] = []
        self._entries: list[Entry] = []
        self._offers: list[Variant] = []
        self._keys: dict[str, None] = {}
        self._addresses = Addresses(base_url, self._variables, most_shared=MAX_ENTRIES)
        self._sequence, self._target_s, self._ended = 0, 0.0, False
        self._skipped, self._lists_channels = 0, False
        self._init: Part | None = None
        self._key: Key | None = None
        self._range_end = ("", 0)
        self._begin_entry()

    def _begin_entry(self) -> None:
        self._duration_s, self._discontinuity, self._missing = 0.0, False, False
        self._date: datetime | None = None
        self._names_init = False
        self._range: str | None = None
        self._variant: str | None = None
        self._fresh_key: Key | None = None

    def read(self, text: str) -> Playlist:
        line = "#"
        for line in lines_of(text):
            if line[:4].upper() == "#EXT":
                tag, _, value = line.partition(":")
                self._read_tag(tag.rstrip().upper(), self._variables.fill(value))
            elif not line.startswith(("#", "<")):  # "<": a server's remark in HTML
                self._add(self._addresses.locate(line))
                self._begin_entry()
        if (
            text[-1:] not in "\r\n"
            and not line.startswith(("#", "<"))
            and ends_within(self._entries)
        ):
            self._entries.pop()
        if self._lists_channels and not self._target_s and not self._numbered:
            raise ValueError("it lists channels: give the URL of one of them")
        entries = told_apart(timed(oldest_first(once_each(self._entries)), self._target_s))
        return Playlist(
            entries=entries,
            offers=tuple(self._offers),
            keys=tuple(self._keys),
            sequence=self._sequence + self._skipped,
            target_s=target_of(self._target_s, entries),
            ended=self._ended,
            variables=self._variables.values,
            breaks=self._cues.breaks,
            numbered=self._numbered,
            can_block_reload=self._can_block_reload,
            audio=tuple(self._audio),
        )

    def _read_tag(self, tag: str, value: str) -> None:
        if tag == "#EXTINF":
            self._lists_channels |= value.lstrip().startswith("-1")
            self._duration_s = number_of(value.partition(",")[0])
        elif tag == "#EXT-X-PROGRAM-DATE-TIME":
            self._date = parse_date(value)
        elif tag == "#EXT-X-DISCONTINUITY":
            self._discontinuity = True
        elif tag == "#EXT-X-DEFINE":
            self._variables.define(value)
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            with suppress(ValueError):  # more than 64 bits: as without it
                self._sequence, self._numbered = whole_number_of(value), True
        elif tag == "#EXT-X-SKIP":  # a delta update, which some servers send unasked
            self._skipped = whole_number_of(attributes_of(value).get("SKIPPED-SEGMENTS", ""))
        elif tag == "#EXT-X-TARGETDURATION":
            self._target_s = min(number_of(value), MAX_SEGMENT_S)
        elif tag == "#EXT-X-MAP":
            attributes = attributes_of(value)
            url = self._addresses.locate_shared(attributes.get("URI", ""))
            init = self._part(url, attributes.get("BYTERANGE") or None)
            self._init, self._names_init = replace(init, key=self._key), True
        elif tag == "#EXT-X-KEY":
            key = self._read_key(value)
            # A segment may have several keys: prefer one that can decrypt it.
            if (
                self._fresh_key is None
                or not self._fresh_key.can_decrypt
                or key is None
                or key.can_decrypt
            ):
                self._key = self._fresh_key = key
        elif tag == "#EXT-X-BYTERANGE":
            self._range = value
        elif tag == "#EXT-X-GAP":
            self._missing = True
        elif tag == "#EXT-X-ENDLIST":
            self._ended = True
        elif tag == "#EXT-X-SERVER-CONTROL":
            self._can_block_reload = attributes_of(value).get("CAN-BLOCK-RELOAD") == "YES"
        elif tag == "#EXT-X-MEDIA":
            self._read_rendition(attributes_of(value))
        elif tag == "#EXT-X-STREAM-INF":
            self._variant = value
        else:
            self._cues.read(tag, value)

    def _read_rendition(self, said: Mapping[str, str]) -> None:
        if said.get("TYPE") != "AUDIO" or len(self._audio) >= _MAX_RENDITIONS:
            return
        with suppress(ValueError):  # an address that is none: pictures are recorded without it
            url = self._addresses.locate(said["URI"]) if said.get("URI") else ""
            self._audio.append(rendition_of(said, url))

    def _read_key(self, value: str) -> Key | None:
        attributes = attributes_of(value)
        method, iv = attributes.get("METHOD", "").upper(), attributes.get("IV", "")
        if method == "NONE":
            return None
        form = attributes.get("KEYFORMAT") or "identity"
        if method != "AES-128" or form != "identity":
            # Its URL, such as skd: or data:, is never fetched.
            return Key(method=method, url="", iv=None, form=form)
        url = self._addresses.locate_shared(attributes.get("URI", ""))
        if not url.startswith(DATA):
            self._keys[url] = None
        found = re.fullmatch(r"(?:0[xX])?0{0,64}?([0-9a-fA-F]{1,32})", iv)
        if iv and not found:
            raise ValueError("an IV that is not a number of 128 bits")
        return Key(method=method, url=url, iv=bytes.fromhex(found[1].zfill(32)) if found else None)

    def _part(self, url: str, byte_range: str | None) -> Part:
        if byte_range is None:
            return Part(url=url)
        found = re.match(r"\s*(\d{1,15})(?:@(\d{1,15}))?\s*$", byte_range)
        if not found:
            raise ValueError("a malformed byte range")
        length = int(found[1])
        if found[2] is None and self._range_end[0] != url:
            raise ValueError("a byte range that continues nothing")
        offset = int(found[2]) if found[2] is not None else self._range_end[1]
        self._range_end = (url, offset + length)
        return Part(url=url, offset=offset, length=length)

    def _add(self, url: str) -> None:
        if len(self._entries) + len(self._offers) >= MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} segments")
        if self._variant is not None:
            attributes = attributes_of(self._variant)
            size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", attributes.get("RESOLUTION", ""))
            variant = Variant(
                url=url,
                bandwidth=whole_number_of(attributes.get("BANDWIDTH", "")),
                width_px=int(size[1]) if size else 0,
                height_px=int(size[2]) if size else 0,
                fps=number_of(attributes.get("FRAME-RATE", "")),
                codecs=attributes.get("CODECS", ""),
                audio=attributes.get("AUDIO", ""),
            )
            self._offers.append(variant)
            return
        entry = Entry(
            media=self._part(url, self._range),
            sequence=self._sequence + self._skipped + len(self._entries),
            duration_s=self._duration_s,
            date=self._date,
            discontinuity=self._discontinuity,
            init=self._init,
            key=self._key,
            missing=self._missing,
            names_init=self._names_init,
            dated=self._date is not None,
            cue=self._cues.take(),
        )
        self._entries.append(entry)
