"""The operator's proxy: http (CONNECT, or whole requests), https or socks5.

It resolves host names itself, so their addresses cannot be checked here.
"""

import base64
import ipaddress
import os
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from flows.capture.net.connection import connect, tls_context
from flows.capture.segment import SourceUnreachable
from flows.capture.waits import WaitLimit

FROM_ENVIRONMENT: Final = "environment"
"""The value of `proxy` that takes the proxy from HTTPS_PROXY."""

DIRECT: Final = "none"
"""The value of `proxy` of a site that is connected to directly."""

_VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_KNOWN: Final = "http://, https:// or socks5://"
_PORTS: Final = {"http": 3128, "https": 443, "socks5": 1080}
_MAX_HEAD_BYTES: Final = 64 * 1024
_REFUSALS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928, 6."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """A proxy.

    never: servers that are connected to directly, in NO_PROXY's format. named_in: where the
    operator sets it.
    """

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    never: str = ""
    named_in: str = "sources.toml"

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] | None = None) -> Self | None:
        """Return the proxy of a URL, or of "environment"; None where that sets none.

        Raises ValueError, without the password.
        """
        if text == FROM_ENVIRONMENT:
            given = os.environ if environment is None else environment
            names = {name.lower(): value.strip() for name, value in given.items()}
            named = next((name for name in _VARIABLES if names.get(name.lower())), None)
            if named is None:
                return None
            found = names[named.lower()]
            if "://" not in found:
                found = f"http://{found}"
            try:
                return cls._of(found, never=names.get("no_proxy", ""), named_in=named)
            except ValueError as e:
                raise ValueError(f"{named} of the environment: {e}") from None
        if "://" not in text:
            raise ValueError(
                f'give a URL that begins with {_KNOWN}; or "{FROM_ENVIRONMENT}", or "{DIRECT}"'
            )
        return cls._of(text)

    @classmethod
    def _of(cls, text: str, *, never: str = "", named_in: str = "sources.toml") -> Self:
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("not a URL; write it as http://name:password@host:port") from None
        scheme = {"socks5h": "socks5", "socks": "socks5"}.get(parts.scheme, parts.scheme)
        if scheme not in _PORTS:
            raise ValueError(f"give a URL that begins with {_KNOWN}")
        if not host:
            raise ValueError("the URL names no host")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("only a host and a port may follow; encode / ? # in a password")
        return cls(
            scheme=scheme,
            host=host,
            port=port or _PORTS[scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            never=never,
            named_in=named_in,
        )

    def __str__(self) -> str:
        """Return its URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The end of an error of a request by it: the fault may be its own."""
        return f" (by the proxy {self} of {self.named_in})"

    def carries(self, host: str, port: int | None = None) -> bool:
        """Return whether it is used for a server; NO_PROXY may also name ports and networks."""
        server = f"{host}:{port}" if port else host
        if not self.never:
            return True
        if proxy_bypass_environment(server, {"no": self.never}):
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return True
        return not any(address in network for network in _networks(self.never))

    @property
    def authorization(self) -> str:
        """The value of `Proxy-Authorization`; empty without a user."""
        if not self.user and not self.password:
            return ""
        coded = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Basic {coded}"

    # -- blocking connections, for the proxies of ffmpeg and yt-dlp

    def connect(
        self, *, wait_limit: WaitLimit, timeout_s: float, tls: bool = True
    ) -> socket.socket:
        """Return a connection to it; raises SourceUnreachable, and as `WaitLimit` does.

        tls: do the TLS handshake with an https proxy.
        """
        failure: OSError | None = None
        try:
            look_up = partial(socket.getaddrinfo, self.host, self.port, type=socket.SOCK_STREAM)
            found = wait_limit.run(look_up, name="capture-name")
        except (OSError, UnicodeError) as e:
            raise self.unreachable(f"no such host ({e})") from e
        for address in dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found):
            try:
                made = connect(
                    ipaddress.ip_address(address),
                    self.port,
                    wait_limit=wait_limit,
                    timeout_s=timeout_s,
                )
                made.settimeout(timeout_s)
                if tls and self.scheme == "https":
                    return tls_context().wrap_socket(made, server_hostname=self.host)
                return made
            except (OSError, ssl.SSLError) as e:
                failure = e
        raise self.unreachable(str(failure or "it has no address"))

    def tunnel(
        self, host: str, port: int, *, wait_limit: WaitLimit, timeout_s: float
    ) -> socket.socket:
        """Return a connection to a host through the proxy; raises as `connect`."""
        made = self.connect(wait_limit=wait_limit, timeout_s=timeout_s)
        try:
            if self.scheme == "socks5":
                self.socks5_handshake(made, host, port)
            else:
                self._http_connect(made, host, port)
        except BaseException as e:
            made.close()
            if isinstance(e, OSError):
                raise self.unreachable(str(e)) from e
            raise
        return made

    def _http_connect(self, made: socket.socket, host: str, port: int) -> None:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        made.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        head = b""
        while b"\r\n\r\n" not in head:
            more = made.recv(1)  # bytes after the head belong to the host
            head += more
            if not more or len(head) > _MAX_HEAD_BYTES:
                raise self.unreachable("it closed the connection")
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            raise self.refused(status_of(status[0].decode("ascii", "replace") if status else ""))

    def socks5_handshake(self, made: socket.socket, host: str, port: int) -> None:
        """Open a tunnel by RFC 1928 and 1929; raises SourceUnreachable, OSError."""
        has_user = bool(self.user or self.password)
        made.sendall(b"\x05\x02\x00\x02" if has_user else b"\x05\x01\x00")
        version, method = _exactly(made, 2)
        if version != 5 or method == 0xFF:
            raise self.refused(407) if version == 5 else self.unreachable("it speaks no SOCKS5")
        if method == 2:
            user, password = self.user.encode()[:255], self.password.encode()[:255]
            made.sendall(b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password)
            if _exactly(made, 2)[1]:
                raise self.refused(407)
        name = host.encode("idna") if not host.isascii() else host.encode()
        try:
            number = ipaddress.ip_address(host)
            where = (b"\x01" if number.version == 4 else b"\x04") + number.packed
        except ValueError:
            where = b"\x03" + bytes([len(name)]) + name
        made.sendall(b"\x05\x01\x00" + where + struct.pack("!H", port))
        _, reply, _, kind = _exactly(made, 4)
        if reply:
            raise self.unreachable(f"{host}: {_REFUSALS.get(reply, f'reply {reply}')}")
        length = {1: 4, 4: 16}.get(kind) or _exactly(made, 1)[0]
        _exactly(made, length + 2)

    def unreachable(self, why: str) -> SourceUnreachable:
        """Return the error for a proxy that does not work."""
        return SourceUnreachable(f"the proxy {self} of {self.named_in}: {why}")

    def refused(self, status: int) -> SourceUnreachable:
        """Return the error for a proxy that refuses a tunnel."""
        if status == 407:
            return self.unreachable(
                "it needs another user and password: write them into its URL, before an @"
            )
        return self.unreachable(f"it refuses (HTTP status {status})")


def _networks(never: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for each in never.split(","):
        try:
            yield ipaddress.ip_network(each.strip(), strict=False)
        except ValueError:  # a name
            continue


def _exactly(made: socket.socket, n: int) -> bytes:
    got = b""
    while len(got) < n:
        more = made.recv(n - len(got))
        if not more:
            raise ConnectionError("it closed the connection")
        got += more
    return got


def status_of(text: str) -> int:
    """Return a proxy's status code; 0 where the text is not a number."""
    return int(text) if text.isascii() and text.isdigit() else 0
