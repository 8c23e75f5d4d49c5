"""A stream to record, and what is known about it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.capture.headers import Headers, SiteHeaders


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A fetched playlist. url: as requested. found_at: after redirects. at: monotonic time."""

    url: str
    found_at: str
    text: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A stream to record, and what is known about it.

    page_url: as the user gave it. url: the media playlist, or another address ffmpeg reads.
    protocol: "http" is one endless file.
    live: None where unknown. live_status: yt-dlp's value. source_id: the broadcast's id at the
    source; another id is another broadcast. expires_at, starts_at: aware UTC. headers: for
    requests to the origin of `url` (`flows.capture.headers`). site_headers: the operator's.
    cookies: in Netscape's format, each for the hosts that it names.
    master_url: the master playlist that lists `url`; empty where unknown.
    segment_query, key_query: added to the URLs of segments and keys.
    master: the master playlist, if it was fetched to find `url`.
    user, password: of a camera's server.
    width_px, height_px, fps, codecs: as the site states them; 0 or empty where unknown.
    loaded: its playlist, if already fetched: some servers ban a client that repeats a request.
    retry_at: monotonic; no request before it, by the server's Retry-After.
    off_air_at: monotonic; when it was last seen off the air, or recording was first tried: what was
    published since then is recorded. 0: it was on air at once.
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
    retry_at: float = field(default=0.0, repr=False, compare=False)
    off_air_at: float = field(default=0.0, repr=False, compare=False)

    @property
    def sent(self) -> Headers:
        """The headers, with the rule which of them go to which host."""
        return Headers(self.headers, made_for=self.url, of_sites=self.site_headers)
