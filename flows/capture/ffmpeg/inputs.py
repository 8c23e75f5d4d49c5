"""Opens a stream for ffmpeg, through our own port, the only one that it can connect to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from flows.capture.hls.feed import Feed
from flows.capture.net.address import PAGE_SCHEMES, AddressPolicy
from flows.capture.playlists.playlist import Entry
from flows.capture.proxy.forward import Datagrams, Forward
from flows.capture.proxy.guard import Guard
from flows.capture.proxy.relay import Relay
from flows.capture.quality import Quality
from flows.capture.stream import Stream
from flows.capture.waits import WaitLimit


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """An open input of ffmpeg; must be closed.

    url: for ffmpeg. options: further ones of its input. environment: for its process. relay: of a
    stream over HTTP.
    """

    url: str
    endpoint: Guard | Datagrams
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)
    relay: Relay | None = None

    def check(self) -> None:
        """Raise UnsafeURL if the stream led to a URL that is not allowed."""
        self.endpoint.check()

    @property
    def origins(self) -> tuple[datetime, ...]:
        """Dates of a DASH manifest's timestamp 0, one for each of its periods."""
        return self.relay.origins if self.relay else ()

    @property
    def error_text(self) -> str:
        """The last fetch that failed, and why; empty if none."""
        return str(self.endpoint.unreachable or "") if isinstance(self.endpoint, Guard) else ""

    def close(self) -> None:
        """End all connections."""
        self.endpoint.close()

    def entry(self, address: str) -> Entry | None:
        """Return the segment of a playlist that ffmpeg opened there; None for any other."""
        return self.relay.entry(address) if self.relay else None

    def take_unreadable(self) -> list[str]:
        """Return the errors of segments replaced by empty media since the last call."""
        taken: list[str] = []
        while self.relay and self.relay.unreadable:
            taken.append(self.relay.unreadable.popleft())
        return taken


def open_input(
    stream: Stream,
    policy: AddressPolicy,
    *,
    begin: Entry | None = None,
    feed: Feed | None = None,
    wait_limit: WaitLimit | None = None,
    quality: Quality | None = None,
) -> Input:
    """Open a stream; raises UnsafeURL, SourceUnreachable, OSError.

    begin, feed: see `Relay`. wait_limit: of DNS lookups; its exceptions are raised.
    """
    scheme = urlsplit(stream.url).scheme
    if scheme in PAGE_SCHEMES:
        relay = Relay(stream, policy, begin, feed=feed, quality=quality)
        guard = Guard(policy, through=relay).open()
        return Input(
            url=relay.url, endpoint=guard, environment={"http_proxy": guard.url}, relay=relay
        )
    if scheme == "srt":
        datagrams = Datagrams(stream.url, policy, wait_limit).open()
        return Input(url=datagrams.url, endpoint=datagrams, options=datagrams.options)
    forward = Forward(stream.url, policy, wait_limit, user=stream.user, password=stream.password)
    guard = Guard(policy, through=forward).open()
    return Input(url=forward.at(guard.port), endpoint=guard, options=forward.options)
