"""A proxy on loopback through which other programs fetch: where the policy allows, and only there.

ffmpeg and yt-dlp look names up and follow redirects, variants, keys and maps themselves. Each
connection that they make comes here first: the name is looked up once, checked, and the address
that was checked is connected to. A request to anywhere else is refused, and remembered. What ffmpeg
asks for by our names for a stream (`flows.capture.relay`) is fetched for it.
"""

import contextlib
import logging
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from flows.capture.address import AddressPolicy, read_host
from flows.capture.connection import connect
from flows.capture.relay import Relay, answer_of
from flows.capture.segment import CaptureError, SourceUnreachable, UnsafeURL
from flows.capture.stopping import Patience, Stopped

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 60.0
"""A connection over which nothing passes for so long is closed."""

_CLOSE_S: Final = 2.0
"""Connections that were cut end in no time: none of them is waited for any longer."""

_TUNNEL_PORT: Final = 443
_MAX_HEAD_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
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


class Guard:
    """Listens on loopback while it is open; `url` is what to give as HTTP proxy.

    Tunnels (CONNECT, for https) and plain requests for http, one a connection. What comes is not
    looked into. A tunnel carries anything, so it leads to port 443 alone, to `ports`, and to what
    the policy names. relay: what answers for its names. most_bytes: that are passed on from
    servers, on all connections together; then they end. Use as a context manager, or `open` and
    `close`.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        ports: Collection[int] = (),
        relay: Relay | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """Remember; nothing is opened yet."""
        self._policy, self._ports, self._relay = policy, {*ports, _TUNNEL_PORT}, relay
        self._left_bytes = float("inf") if most_bytes is None else most_bytes
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._patience = Patience()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor: threading.Thread | None = None
        self.url = ""
        self.refused: UnsafeURL | None = None
        """The first that was refused."""
        self.unreachable: CaptureError | None = None
        """The last that did not answer."""

    def __enter__(self) -> Self:
        """Listen."""
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def open(self) -> Self:
        """Listen; raises OSError."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name="capture-guard", daemon=True
        )
        self._acceptor.start()
        return self

    def close(self) -> None:
        """End all connections, and wait until nothing of it is left."""
        if self._listener is None or self._acceptor is None:
            return
        self._patience.stopping.set()
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        # What waits for a connection is woken by one, everywhere.
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1.0).close()
        end = time.monotonic() + _CLOSE_S
        self._acceptor.join(_CLOSE_S)
        self._listener.close()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if self._acceptor.is_alive() or any(thread.is_alive() for thread in self._threads):
            _log.error("a connection of the capture's proxy does not end")
        self._listener = self._acceptor = None

    def check(self) -> None:
        """Raise UnsafeURL if anything was refused."""
        if self.refused is not None:
            raise self.refused

    # -- one thread accepts, and each connection has one

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._patience.stopping.is_set():
                client.close()
                return
            thread = threading.Thread(
                target=self._serve, args=(client,), name="capture-guard", daemon=True
            )
            thread.start()
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]

    def _serve(self, client: socket.socket) -> None:
        # Either side may leave at any moment: that is its business.
        with contextlib.suppress(OSError, Stopped), self._keeping(client):
            try:
                head, rest = _read_head(client)
                if self._relay is not None and self._relay.takes(head):
                    self._relay.serve(head, client, connect=self._connecting, keeping=self._keeping)
                    return
                host, port, first = _read_request(head)
                server = self._connect(host, port, tunnel=not first)
            except CaptureError as e:
                if isinstance(e, UnsafeURL):
                    self.refused = self.refused or e
                else:
                    self.unreachable = e
                client.sendall(answer_of(e))
                return
            with self._keeping(server):
                if first:
                    server.sendall(first + rest)
                else:
                    client.sendall(_ESTABLISHED)
                _relay(client, server, tunnel=not first, may_pass=self._may_pass)

    @contextlib.contextmanager
    def _keeping(self, each: socket.socket) -> Iterator[None]:
        """Have a connection ended by `close`, and closed."""
        # Another handle: the one that is given to TLS is no longer of use.
        with each, socket.socket(fileno=os.dup(each.fileno())) as handle:
            with self._lock:
                self._sockets.add(handle)
            try:
                each.settimeout(IDLE_S)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._patience.require()
                yield
            finally:
                with self._lock:
                    self._sockets.discard(handle)

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
        with self._keeping(server):
            yield server

    def _connect(self, host: str, port: int, *, tunnel: bool = False) -> socket.socket:
        failure: OSError | None = None
        look_up = partial(self._policy.addresses_of, host, port)
        for address in self._patience.run(look_up, name="capture-name"):
            if tunnel and port not in self._ports and not self._policy.names(address, port):
                raise UnsafeURL(
                    f"{host}: no tunnel to port {port}, which its URL does not name; name "
                    f"{address}:{port} in the networks that are allowed if it is meant"
                )
            try:
                return connect(address, port, patience=self._patience, timeout_s=CONNECT_TIMEOUT_S)
            except OSError as e:
                failure = e
        raise SourceUnreachable(f"{host}: {failure or 'no address'}")


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return a request's line and headers, without the empty line, and what came after it."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(_CHUNK_BYTES)
        if not more or len(head) > _MAX_HEAD_BYTES:
            raise SourceUnreachable("a request that is none")
        head += more
    head, _, rest = head.partition(b"\r\n\r\n")
    return head, rest


def _read_request(head: bytes) -> tuple[str, int, bytes]:
    """Return the host and port that a request is for, and what to send there: nothing to tunnel.

    Raises UnsafeURL, SourceUnreachable for what is no request to a proxy.
    """
    line, *headers = head.split(b"\r\n")
    text = line.decode("ascii", "replace")
    if found := _TUNNEL.fullmatch(text):
        # The port is named always; without one it would be a wish for port 443.
        host, port = read_host(f"https://{found[1]}/")
        return host, port or 443, b""
    if found := _REQUEST.fullmatch(text):
        host, port = read_host(found[2])
        parts = urlsplit(found[2])
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        line = f"{found[1]} {path} HTTP/1.1".encode()
        lines = [line, *_without_ours(headers), b"Connection: close", b"", b""]
        return host, port or 80, b"\r\n".join(lines)
    raise SourceUnreachable("a request that is none")


def _relay(
    client: socket.socket,
    server: socket.socket,
    *,
    tunnel: bool,
    may_pass: Callable[[int], bool],
) -> None:
    """Pass on what comes, in both directions, until the server has said all, or more than it may.

    Not in a tunnel, the answer is made to say that nothing more is answered here.
    """
    head: bytes | None = None if tunnel else b""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while ready := selector.select(IDLE_S):
            for key, _ in ready:
                if key.fileobj is client:
                    data = client.recv(_CHUNK_BYTES)
                    server.sendall(data)
                    if not data:
                        selector.unregister(client)
                        server.shutdown(socket.SHUT_WR)
                    continue
                data = server.recv(_CHUNK_BYTES)
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
    """Return the beginning of an answer, which says that the connection ends with it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    lines = [status, *_without_ours(headers), b"Connection: close"]
    return b"\r\n".join(lines) + end + body if end else answer


def _without_ours(headers: list[bytes]) -> list[bytes]:
    return [each for each in headers if each.partition(b":")[0].strip().lower() not in _OURS]
