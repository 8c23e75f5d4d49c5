"""Entries of an HLS playlist: segments, where their bytes are, and their encryption."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.capture.playlists.cues import Cue


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The key that segments are encrypted with.

    method: as the playlist names it; AES-128 is CBC with PKCS7. iv: None: the sequence number.
    form: KEYFORMAT; "identity" is the key itself, any other a licence's.
    """

    method: str
    url: str
    iv: bytes | None
    form: str = "identity"

    @property
    def opens(self) -> bool:
        """Whether who has the key's bytes can decrypt."""
        return self.method == "AES-128" and self.form == "identity"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file, or the bytes of it from `offset` on, `length` of them; None: all.

    key: of an initialisation section: what it may be encrypted with (RFC 8216, 4.3.2.4).
    """

    url: str
    offset: int = 0
    length: int | None = None
    key: Key | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A media segment in a playlist.

    media: where it is, its URL absolute. sequence: its media sequence number. duration_s: of
    EXTINF. date: aware UTC, of its first sample; None without EXT-X-PROGRAM-DATE-TIME. dated: the
    tag stands before it, so that no lengths are added up.
    init: its initialisation section (fMP4), or tables (MPEG-TS); names_init: EXT-X-MAP stands right
    before it. missing: the source says that it has none (EXT-X-GAP). cue: what stands before it of
    advertisements.
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

    @property
    def url(self) -> str:
        """The file that it is in."""
        return self.media.url

    @property
    def map_url(self) -> str | None:
        """The file that its initialisation section is in."""
        return self.init.url if self.init else None

    @property
    def whole(self) -> bool:
        """Whether it is a file of its own, as it comes: neither a byte range nor encrypted."""
        ranged = self.media.length is not None or (self.init and self.init.length is not None)
        return not ranged and self.key is None

    @property
    def end(self) -> datetime | None:
        """The date of what follows it."""
        return self.date and self.date + timedelta(seconds=self.duration_s)
