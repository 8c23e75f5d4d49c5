"""Which addresses may be fetched: public ones, and those that the operator allows."""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from flows.capture.headers import ascii_host
from flows.capture.net.public import Address as Address
from flows.capture.net.public import Network, embedded, is_public
from flows.capture.net.upstream import Upstream
from flows.capture.redaction import shorten
from flows.capture.segment import SourceUnreachable, UnsafeURL

PAGE_SCHEMES: Final = ("http", "https")
"""URL schemes that a user may give."""

STREAM_SCHEMES: Final = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "srt")
"""Schemes of streams; all but http and https need a server that the operator allows."""

LOOPBACK: Final[tuple[Network, ...]] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)
"""This machine, for the demo channel."""

_OWN_NAMES: Final = ("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback")
"""Names that machines give themselves in their hosts file."""

_MAX_URL_CHARS: Final = 8192
_MAX_ADDRESSES: Final = 8
"""Most addresses of a host that are tried in turn."""

FORBIDDEN: Final = re.compile(r'[\x00-\x20\x7f\ud800-\udfff\\"<>^`{|}]')
"""Characters that URL parsers treat differently, or can't send."""

_PORTS: Final = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "rtsp": 554, "rtsps": 322}


@dataclass(frozen=True, kw_only=True, slots=True)
class AddressPolicy:
    """Decides whether a URL may be fetched.

    allow_networks: non-public networks that are allowed. allow_origins: single servers that are
    allowed, by address and port.
    upstream: the operator's proxy for http and https. It resolves host names, so then only
    addresses literally in a URL are checked.
    """

    allow_networks: tuple[Network, ...] = ()
    allow_origins: tuple[tuple[Address, int], ...] = ()
    upstream: Upstream | None = None

    @classmethod
    def of(cls, entries: Iterable[str]) -> Self:
        """Return the policy that texts such as "10.1.0.0/16" and "127.0.0.1:8099" describe.

        Raises UnsafeURL for a text that is neither.
        """
        networks, origins = [], []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                host, _, port = entry.rpartition(":")
                try:
                    origins.append((ipaddress.ip_address(host.strip("[]")), int(port)))
                except ValueError as e:
                    raise UnsafeURL(
                        f"{entry!r} allows nothing: name a network such as 10.1.0.0/16, or an "
                        "address and a port such as 127.0.0.1:8099"
                    ) from e
        return cls(allow_networks=tuple(networks), allow_origins=tuple(origins))

    def check(self, url: str, *, schemes: Iterable[str] = PAGE_SCHEMES) -> tuple[Address, ...]:
        """Return the addresses of the URL's host, all of them allowed; empty through the proxy.

        Raises UnsafeURL for another scheme, credentials or ambiguous characters in the URL, an
        address that is neither public nor allowed, and, unless http or https, for one that the
        operator has not allowed; SourceUnreachable if the host has no address.
        """
        host, port = read_host(url, schemes=schemes)
        scheme = urlsplit(url).scheme
        if scheme in PAGE_SCHEMES and self.upstream_for(host, port):
            self.check_unresolved([url])
            return ()
        addresses = self.addresses_of(host, port, shown=shorten(url))
        for address in addresses:
            if scheme not in PAGE_SCHEMES and not self.names(address, port or 0):
                raise UnsafeURL(
                    f"{shorten(url)}: {scheme} is taken only from allowed servers; if it is "
                    f"meant, add {address}:{port or 'PORT'} to SHOWMOOD_ALLOW_NETWORKS"
                )
        return addresses

    def upstream_for(self, host: str, port: int | None = None) -> Upstream | None:
        """Return the proxy for requests to a server; None without one.

        Raises UnsafeURL for a name of the proxy's own machine.
        """
        if self.upstream is None or not self.upstream.carries(host, port):
            return None
        name = ascii_host(host).rstrip(".")
        if name in _OWN_NAMES or name.endswith((".localhost", ".localdomain")):
            raise UnsafeURL(f"{host}: an internal name, and a proxy is set for this show")
        return self.upstream

    def check_unresolved(self, urls: Iterable[str]) -> None:
        """Check URLs by their text alone, without DNS.

        Raises UnsafeURL as `check`: for a literal address that is not public, in any notation, but
        not for a name that resolves to one.
        """
        seen: set[tuple[str, int | None]] = set()
        for url in urls:
            server = read_host(url)
            if server not in seen:
                seen.add(server)
                self.upstream_for(*server)
                with contextlib.suppress(OSError, UnicodeError):  # a name
                    self._check(
                        # To some proxies, 10.0.0.1. with a dot at its end is an address, too.
                        _look_up(server[0].rstrip("."), server[1], flags=socket.AI_NUMERICHOST),
                        server[1],
                        shown=shorten(url),
                    )

    def addresses_of(
        self, host: str, port: int | None, *, shown: str | None = None
    ) -> tuple[Address, ...]:
        """Resolve the host now; return its addresses, all of them allowed.

        shown: the host's name in an error. Raises as `check`.
        """
        addresses = _addresses_of(host, port)
        self._check(addresses, port, shown=shown or host)
        return addresses[:_MAX_ADDRESSES]

    def _check(self, addresses: Iterable[Address], port: int | None, *, shown: str) -> None:
        for address in addresses:
            if (address, port or 0) not in self.allow_origins and not self._allows(address):
                raise UnsafeURL(
                    f"{shown}: {address} is an internal address; if it is meant, the "
                    "operator names its network in SHOWMOOD_ALLOW_NETWORKS"
                )

    def names(self, address: Address, port: int) -> bool:
        """Return whether the operator allows this address, alone or with this port."""
        return (address, port) in self.allow_origins or any(
            address in network for network in self.allow_networks
        )

    def _allows(self, address: Address) -> bool:
        if any(address in network for network in self.allow_networks):
            return True
        meant = embedded(address)
        return is_public(address) if meant is None else self._allows(meant)


def read_host(url: str, *, schemes: Iterable[str] = PAGE_SCHEMES) -> tuple[str, int | None]:
    """Return the host and port (default: the scheme's) of a URL, without DNS.

    Raises UnsafeURL for another scheme, credentials, or ambiguous characters in the URL.
    """
    if len(url) > _MAX_URL_CHARS:
        raise UnsafeURL(f"{shorten(url)}: the URL is longer than {_MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # No `from e`: its text may contain a part of a password.
        raise UnsafeURL(f"{shorten(url)}: not a URL") from None
    if parts.scheme not in tuple(schemes):
        wish = "give a URL that begins with http:// or https://"
        if parts.scheme in STREAM_SCHEMES:
            wish += "; the operator names a camera in sources.toml (docs/sources.md)"
        raise UnsafeURL(f"{shorten(url)}: {wish}")
    if FORBIDDEN.search(url):
        raise UnsafeURL(
            f"{shorten(url)}: spaces, control characters and \\ are not allowed in a URL"
        )
    if parts.username is not None or parts.password is not None:
        raise UnsafeURL(f"{parts.scheme}://...@{host}: leave user name and password out")
    if not host or "%" in host:
        raise UnsafeURL(f"{shorten(url)}: the URL names no host")
    return host, port or _PORTS.get(parts.scheme)


def _addresses_of(host: str, port: int | None) -> tuple[Address, ...]:
    try:
        return _look_up(host, port)
    except (OSError, UnicodeError) as e:
        raise SourceUnreachable(f"{host}: no such host ({e})") from e


def _look_up(host: str, port: int | None, *, flags: int = 0) -> tuple[Address, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ipaddress.ip_address(text) for text in texts)
