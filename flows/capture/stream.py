"""A stream that can be recorded, and what is known of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.capture.headers import Headers, SiteHeaders


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A playlist as it came. url: what was asked for. found_at: where that led. at: monotonic."""

    url: str
    found_at: str
    text: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A stream that can be recorded, and what is known about it.

    page_url: as the user gave it. url: the media playlist, or another address ffmpeg reads.
    protocol: "http" is one file without end.
    live: None where the source does not say. live_status: yt-dlp's word. source_id: the
    broadcast's id at the source; another id is another broadcast. expires_at, starts_at: aware
    UTC. headers: to be sent to where `url` is (`flows.capture.headers`). site_headers: the
    operator's. cookies: in Netscape's format, each for the hosts that it names.
    master_url: the master playlist that lists `url`; empty where none is known.
    segment_query, key_query: what segments and keys want after their `?`.
    master: what came from there, where it was fetched to find `url`.
    user, password: of a camera's server.
    width_px, height_px, fps, codecs: as the site says; 0 or empty where it does not.
    loaded: its playlist, where it was fetched already: a server may ban who asks again at once.
    ask_at: monotonic; until then its server has asked to be left alone.
    """

    page_url: str
    url: str
    protocol: Literal["hls", "http", "other"]
    live: bool | None
    live_status: str | None
    source_id: str
    title: str
    expires_at: datetime | None = None
    starts_at: datetime | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    site_headers: tuple[SiteHeaders, ...] = field(default=(), repr=False)
    cookies: str = field(default="", repr=False)
    master_url: str = ""
    segment_query: str = field(default="", repr=False)
    key_query: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    width_px: int = 0
    height_px: int = 0
    fps: float = 0.0
    codecs: str = ""
    loaded: Loaded | None = field(default=None, repr=False, compare=False)
    master: Loaded | None = field(default=None, repr=False, compare=False)
    ask_at: float = field(default=0.0, repr=False, compare=False)

    @property
    def sent(self) -> Headers:
        """Which of the headers go where."""
        return Headers(self.headers, made_for=self.url, of_sites=self.site_headers)
