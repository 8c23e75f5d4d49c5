"""How ffmpeg reaches a stream: by our own port, the only one it may connect to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

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
    """An open one, to be closed.

    url: what ffmpeg is to open. environment: variables beside its command line. relay: what
    names the stream's addresses, where it is one of HTTP.
    """

    url: str
    endpoint: Guard | Datagrams
    environment: Mapping[str, str] = field(default_factory=dict)
    relay: Relay | None = None

    def check(self) -> None:
        """Raise UnsafeURL if it was led where nothing may be fetched."""
        self.endpoint.check()

    @property
    def origins(self) -> tuple[datetime, ...]:
        """When timestamp 0 was on air, as a DASH manifest says: one for each of its periods."""
        return self.relay.origins if self.relay else ()

    @property
    def complaint(self) -> str:
        """The last fetch that failed, and why; empty if none."""
        return str(self.endpoint.unreachable or "") if isinstance(self.endpoint, Guard) else ""

    def close(self) -> None:
        """End all connections."""
        self.endpoint.close()

    def real(self, address: str) -> str:
        """Return what an address that ffmpeg opened stands for."""
        return self.relay.real(address) if self.relay else address

    def take_unreadable(self) -> list[str]:
        """Return why something was given without content, since the last call."""
        taken: list[str] = []
        while self.relay and self.relay.unreadable:
            taken.append(self.relay.unreadable.popleft())
        return taken


def open_input(
    stream: Stream,
    policy: AddressPolicy,
    *,
    begin: Entry | None = None,
    wait_limit: WaitLimit | None = None,
    quality: Quality | None = None,
) -> Input:
    """Open the way to a stream; raises UnsafeURL, SourceUnreachable, OSError.

    begin: the segment of a live playlist to begin with; else that is the newest. patience: for
    looking a name up; what ends it is raised.
    """
    scheme = urlsplit(stream.url).scheme
    if scheme in PAGE_SCHEMES:
        relay = Relay(stream, policy, begin, quality=quality)
        guard = Guard(policy, through=relay).open()
        return Input(
            url=relay.url, endpoint=guard, environment={"http_proxy": guard.url}, relay=relay
        )
    if scheme == "srt":
        datagrams = Datagrams(stream.url, policy, wait_limit).open()
        return Input(url=datagrams.url, endpoint=datagrams)
    forward = Forward(stream.url, policy, wait_limit, user=stream.user, password=stream.password)
    guard = Guard(policy, through=forward).open()
    return Input(url=forward.at(guard.port), endpoint=guard)
