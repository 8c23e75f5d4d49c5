"""A proxy on loopback that lets other programs fetch only what the address policy allows.

yt-dlp resolves names and follows redirects itself. Each of its connections goes through here: the
name is resolved once and checked, and the checked address is connected to. Other requests are
refused, and remembered. ffmpeg only gets our names for a stream (`flows.capture.proxy.relay`), or
one server (`flows.capture.proxy.forward`).
"""

import base64
import contextlib
import hmac
import math
import re
import secrets
import selectors
import socket
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from flows.capture.net.address import AddressPolicy, read_host
from flows.capture.net.connection import connect
from flows.capture.net.upstream import Upstream
from flows.capture.proxy.forward import Forward
from flows.capture.proxy.port import CHUNK_BYTES, IDLE_S, Port, arriving
from flows.capture.proxy.relay import Relay, answer_of
from flows.capture.segment import CaptureError, SourceUnreachable, UnsafeURL

CONNECT_TIMEOUT_S: Final = 10.0
HEAD_S: Final = 10.0
"""Seconds within which a request's head must arrive."""

REQUEST_S: Final = 60.0
"""Time limit of a request and its response."""

_USER: Final = "capture"
_CREDENTIALS: Final = re.compile(
    rb"\r\nproxy-authorization: *basic +([A-Za-z0-9+/=]{1,200})(?=\r\n|$)", re.IGNORECASE
)
_AUTHENTICATE: Final = (
    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="capture"\r\n'
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
_TUNNEL_PORT: Final = 443
_MAX_HEAD_BYTES: Final = 64 * 1024
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TUNNEL = re.compile(r"CONNECT ([^ ]+) HTTP/1\.[01]")
_REQUEST = re.compile(r"([A-Z]+) (http://[^ ]+) HTTP/1\.[01]")
_OURS: Final = (
    b"connection",
    b"proxy-connection",
    b"proxy-authorization",
    b"keep-alive",
    b"expect",
)
"""Headers of a connection to a proxy, not of the one to the server (RFC 9110, 7.6.1)."""


class Guard(Port):
    """A proxy for one of our child processes; `url` is the proxy's URL.

    The URL holds a secret; clients without it get a 407. It belongs into the child's environment,
    never on its command line.

    By itself it serves tunnels (CONNECT, for https) and plain http requests, one a connection, for
    `REQUEST_S` at most, without inspecting the data. As a tunnel carries anything, it may only lead
    to port 443, to `ports`, and to servers that the operator allows. through: serves all requests
    instead: our names of a stream, or one connection to one server. most_bytes: limit of the bytes
    from servers, on all connections together.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        ports: Collection[int] = (),
        through: Relay | Forward | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """Keep the arguments; nothing is opened yet."""
        super().__init__()
        self._policy, self._ports, self._through = policy, {*ports, _TUNNEL_PORT}, through
        self._left_bytes = math.inf if most_bytes is None else most_bytes
        self._secret = secrets.token_hex(16)
        self._credentials = base64.b64encode(f"{_USER}:{self._secret}".encode())
        self.refused: UnsafeURL | None = None
        """The first request that was refused."""
        self.unreachable: CaptureError | None = None
        """The last server that did not answer."""

    @property
    def url(self) -> str:
        """The URL for the child's http_proxy, once it is open."""
        return f"http://{_USER}:{self._secret}@127.0.0.1:{self.port}"

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        if isinstance(self._through, Relay):
            self._through.stopping.set()
        super().close()
        if isinstance(self._through, Relay):
            self._through.close()

    def check(self) -> None:
        """Raise UnsafeURL if anything was refused."""
        if self.refused is not None:
            raise self.refused

    def answer(self, client: socket.socket) -> None:
        """Serve one connection."""
        with self.keeping(client, most_s=HEAD_S) as allow:
            try:
                if isinstance(self._through, Forward):
                    allow(math.inf)
                    self._through.serve(client, connect=self._connecting, keeping=self.keeping)
                    return
                head, rest = _read_head(client)
                if not self._is_known(head):
                    client.sendall(_AUTHENTICATE)
                    return
                allow(REQUEST_S if self._through is None else math.inf)
                if self._through is not None:
                    self._through.serve(head, client)
                    return
                host, port, first = _read_request(head)
                upstream = self._policy.upstream_for(host, port)
                if upstream is not None:
                    first, server = self._by(upstream, host, port, first)
                else:
                    server = self._connect(host, port, tunnel=not first)
            except CaptureError as e:
                if isinstance(e, UnsafeURL):
                    self.refused = self.refused or e
                else:
                    self.unreachable = e
                client.sendall(answer_of(e))
                return
            with self.keeping(server, most_s=REQUEST_S):
                if first:
                    server.sendall(first + rest)
                else:
                    client.sendall(_ESTABLISHED)
                _relay(client, server, tunnel=not first, may_pass=self._may_pass)

    def _is_known(self, head: bytes) -> bool:
        found = _CREDENTIALS.search(head)
        return found is not None and hmac.compare_digest(found[1], self._credentials)

    def _may_pass(self, n_bytes: int) -> bool:
        with self._lock:
            self._left_bytes -= n_bytes
            return self._left_bytes >= 0

    @property
    def is_spent(self) -> bool:
        """Whether more than `most_bytes` came."""
        return self._left_bytes < 0

    @contextlib.contextmanager
    def _connecting(self, host: str, port: int) -> Iterator[socket.socket]:
        server = self._connect(host, port)
        with self.keeping(server):
            yield server

    def _by(
        self, upstream: Upstream, host: str, port: int, first: bytes
    ) -> tuple[bytes, socket.socket]:
        """Return the bytes to send first, and a connection to, or through, the operator's proxy."""
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        self._policy.check_unresolved([url])
        if not first and port not in self._ports:
            raise UnsafeURL(f"{host}: no tunnel to port {port}, which is not in its URL")
        wait_limit, wait_s = self._wait_limit, CONNECT_TIMEOUT_S
        if not first or upstream.scheme == "socks5":
            return first, upstream.tunnel(host, port, wait_limit=wait_limit, timeout_s=wait_s)
        method, path, rest = first.split(b" ", 2)
        line, _, headers = rest.partition(b"\r\n")
        known = f"Proxy-Authorization: {upstream.authorization}\r\n".encode()
        known = known if upstream.authorization else b""
        first = b"%b %b%b %b\r\n%b%b" % (method, url.encode(), path, line, known, headers)
        return first, upstream.connect(wait_limit=wait_limit, timeout_s=wait_s)

    def _connect(self, host: str, port: int, *, tunnel: bool = False) -> socket.socket:
        failure: OSError | None = None
        look_up = partial(self._policy.addresses_of, host, port)
        for address in self._wait_limit.run(look_up, name="capture-name"):
            if tunnel and port not in self._ports and not self._policy.names(address, port):
                raise UnsafeURL(
                    f"{host}: no tunnel to port {port}, which is not in its URL; if it is meant, "
                    f"add {address}:{port} to SHOWMOOD_ALLOW_NETWORKS"
                )
            try:
                return connect(
                    address, port, wait_limit=self._wait_limit, timeout_s=CONNECT_TIMEOUT_S
                )
            except OSError as e:
                failure = e
        raise SourceUnreachable(f"{host}: {failure or 'no address'}")


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return a request's head, without the empty line, and the bytes after it."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(CHUNK_BYTES)
        if not more or len(head) > _MAX_HEAD_BYTES:
            raise SourceUnreachable("a malformed request")
        head += more
    head, _, rest = head.partition(b"\r\n\r\n")
    return head, rest


def _read_request(head: bytes) -> tuple[str, int, bytes]:
    """Return the host and port of a request, and the request to send there; empty for CONNECT.

    Raises UnsafeURL, SourceUnreachable for a malformed request.
    """
    line, *headers = head.split(b"\r\n")
    text = line.decode("ascii", "replace")
    if found := _TUNNEL.fullmatch(text):
        # CONNECT always has a port; without one it is taken for 443.
        host, port = read_host(f"https://{found[1]}/")
        return host, port or 443, b""
    if found := _REQUEST.fullmatch(text):
        host, port = read_host(found[2])
        parts = urlsplit(found[2])
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        line = f"{found[1]} {path} HTTP/1.1".encode()
        lines = [line, *_without_ours(headers), b"Connection: close", b"", b""]
        return host, port or 80, b"\r\n".join(lines)
    raise SourceUnreachable("a malformed request")


def _relay(
    client: socket.socket,
    server: socket.socket,
    *,
    tunnel: bool,
    may_pass: Callable[[int], bool],
) -> None:
    """Copy data in both directions until the server ends, or exceeds the limit of bytes.

    Outside a tunnel, `Connection: close` is set in the response.
    """
    head: bytes | None = None if tunnel else b""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while ready := selector.select(IDLE_S):
            for key, _ in ready:
                if key.fileobj is client:
                    data = client.recv(CHUNK_BYTES)
                    server.sendall(data)
                    if not data:
                        selector.unregister(client)
                        server.shutdown(socket.SHUT_WR)
                    continue
                for data in arriving(server):
                    if not may_pass(len(data)):
                        return
                    if head is not None:
                        head += data
                        if data and b"\r\n\r\n" not in head and len(head) <= _MAX_HEAD_BYTES:
                            continue
                        data, head = _with_close(head), None
                    client.sendall(data)
                    if not data:
                        return


def _with_close(answer: bytes) -> bytes:
    """Return the beginning of a response with `Connection: close` set."""
    head, end, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    lines = [status, *_without_ours(headers), b"Connection: close"]
    return b"\r\n".join(lines) + end + body if end else answer


def _without_ours(headers: list[bytes]) -> list[bytes]:
    return [each for each in headers if each.partition(b":")[0].strip().lower() not in _OURS]
