"""HLS playlists (RFC 8216): what they list, and when it was on air."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urljoin

from flows.capture.segment import NoStream

MAX_PLAYLIST_BYTES: Final = 4 * 1024 * 1024

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A media segment in a playlist.

    url: absolute. duration_s: of EXTINF. date: aware UTC, of its first sample; None without
    EXT-X-PROGRAM-DATE-TIME. map_url: its initialisation section (fMP4). whole: it is a file of its
    own, as it comes: neither a byte range nor encrypted.
    """

    url: str
    duration_s: float
    date: datetime | None
    discontinuity: bool
    map_url: str | None
    whole: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Playlist:
    """A media playlist (`entries`) or a master playlist (`variants`, URLs).

    sequence: of the first entry. target_s: the longest segment, rounded. ended: nothing will be
    added (EXT-X-ENDLIST). keys: URLs of the keys that the segments are encrypted with.
    """

    entries: tuple[Entry, ...]
    variants: tuple[str, ...]
    keys: tuple[str, ...]
    sequence: int
    target_s: float
    ended: bool

    @property
    def urls(self) -> set[str]:
        """All that a player would fetch."""
        maps = {entry.map_url for entry in self.entries if entry.map_url}
        return {entry.url for entry in self.entries} | maps | {*self.variants, *self.keys}


def parse_playlist(text: str, base_url: str) -> Playlist:
    """Read a playlist that was found at `base_url`.

    A date holds from its tag on, the durations adding up, until the next tag (RFC 8216, 4.3.2.6);
    a discontinuity without a date ends it. Raises NoStream for what is no playlist.
    """
    if not text.lstrip("\ufeff").startswith("#EXTM3U"):
        raise NoStream(f"{base_url}: not an HLS playlist")
    entries: list[Entry] = []
    variants: list[str] = []
    keys: list[str] = []
    sequence, target_s, ended = 0, 0.0, False
    date: datetime | None = None
    duration_s, discontinuity, map_url, encrypted = 0.0, False, None, False
    ranged = variant = False
    for line in map(str.strip, text.splitlines()):
        tag, _, value = line.partition(":")
        if tag == "#EXTINF":
            duration_s = _number(value.partition(",")[0])
        elif tag == "#EXT-X-PROGRAM-DATE-TIME":
            date = parse_date(value)
        elif tag == "#EXT-X-DISCONTINUITY":
            discontinuity, date = True, None
        elif tag == "#EXT-X-MEDIA-SEQUENCE":
            sequence = int(_number(value))
        elif tag == "#EXT-X-TARGETDURATION":
            target_s = _number(value)
        elif tag == "#EXT-X-MAP":
            map_url = urljoin(base_url, _attribute(value, "URI"))
            ranged = ranged or bool(_attribute(value, "BYTERANGE"))
        elif tag == "#EXT-X-KEY":
            encrypted = _attribute(value, "METHOD") != "NONE"
            if uri := _attribute(value, "URI"):
                keys.append(urljoin(base_url, uri))
        elif tag == "#EXT-X-BYTERANGE":
            ranged = True
        elif tag == "#EXT-X-ENDLIST":
            ended = True
        elif tag == "#EXT-X-STREAM-INF":
            variant = True
        elif line and not line.startswith("#"):
            url = urljoin(base_url, line)
            if variant:
                variants.append(url)
            else:
                entries.append(
                    Entry(
                        url=url,
                        duration_s=duration_s,
                        date=date,
                        discontinuity=discontinuity,
                        map_url=map_url,
                        whole=not (ranged or encrypted),
                    )
                )
                date = date and date + timedelta(seconds=duration_s)
            duration_s, discontinuity, variant, ranged = 0.0, False, False, False
    return Playlist(
        entries=tuple(entries),
        variants=tuple(variants),
        keys=tuple(keys),
        sequence=sequence,
        target_s=target_s,
        ended=ended,
    )


def parse_date(value: str) -> datetime | None:
    """Read an ISO 8601 date; without a zone it is UTC; None if it is none."""
    try:
        date = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _number(text: str) -> float:
    found = re.match(r"\s*(\d+(?:\.\d*)?)", text)
    return float(found[1]) if found else 0.0


def _attribute(text: str, name: str) -> str:
    return next((v.strip('"') for k, v in _ATTRIBUTE.findall(text) if k == name), "")
