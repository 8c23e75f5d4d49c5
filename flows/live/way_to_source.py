"""Finds a show's stream with the address policy and the operator's settings for its site."""

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from flows.capture.hls.feed import Feed
from flows.capture.net.address import STREAM_SCHEMES, AddressPolicy, read_host
from flows.capture.net.for_stream import fetcher_for
from flows.capture.segment import CaptureError, NotLive, NotWatchable, SourceUnreachable
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.cameras import is_camera, without_user
from flows.capture.source.operator.sources import Sources
from flows.capture.source.operator.sources_values import SecretOf, no_secrets
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.settings import Settings
from flows.show import Show


@dataclass(frozen=True, kw_only=True, slots=True)
class WayToSource:
    """Access to a show's source.

    policy: which addresses are allowed, and by which proxy. access: reads the operator's settings
    for the site. mistakes: in sources.toml, for any site.
    """

    policy: AddressPolicy
    access: Callable[[], Access]
    mistakes: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, url: str, secret_of: SecretOf = no_secrets) -> Self:
        """Return the access for a page's URL; raises BadSources, UnsafeURL, one line each."""
        policy = AddressPolicy.of(settings.allow_networks)
        sources = read_sources(settings)
        now = sources.access(url, secret_of)

        def access() -> Access:
            # Read again each time: the cookies file is renewed.
            return read_sources(settings).access(url, secret_of)

        policy = replace(policy, upstream=now.upstream)
        if now.camera:
            policy = _naming(policy, without_user(now.camera))
        return cls(policy=policy, access=access, mistakes=sources.mistakes)

    def check(self, url: str) -> None:
        """Check that a page's URL is allowed; raises as `AddressPolicy.check`."""
        if not is_camera(url):
            self.policy.check(url)

    def find(self, show: Show, extractors: Sequence[type] = ()) -> Stream:
        """Return a show's stream; raises as `resolve`, and NotLive or NotWatchable."""
        stream = resolve(
            show.url,
            policy=self.policy,
            access=self.access(),
            quality=show.limits,
            extractors=extractors,
        )
        return self._require_begun(stream, show) if stream.protocol == "hls" else stream

    def _require_begun(self, stream: Stream, show: Show) -> Stream:
        """Return the stream with its playlist; raises NotLive for an empty one, NotWatchable."""
        with fetcher_for(stream, self.policy) as fetcher:
            feed = Feed(stream, fetcher, show.limits)
            try:
                playlist = feed.load()
            except NotWatchable:
                raise
            except SourceUnreachable as e:
                # Not raised: the capture gets the same error, and handles it.
                return replace(stream, retry_at=time.monotonic() + e.backoff_s)
            except CaptureError:
                return stream
        if not playlist.entries and not playlist.ended:
            raise NotLive(f"{stream.page_url}: the show has not begun; its playlist is empty")
        return replace(stream, loaded=feed.loaded)


def _naming(policy: AddressPolicy, url: str) -> AddressPolicy:
    """Return the policy that also allows a camera's server, as the operator has listed it."""
    host, port = read_host(url, schemes=STREAM_SCHEMES)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise SourceUnreachable(f"{host}: no such host ({e})") from e
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    named = tuple((address, port or 0) for address in addresses)
    return replace(policy, allow_origins=policy.allow_origins + named)


def read_sources(settings: Settings) -> Sources:
    """Read sources.toml; it must exist where SHOWMOOD_SOURCES is set."""
    return Sources.read(settings.sources_file, required=settings.sources is not None)
