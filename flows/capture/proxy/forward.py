"""What ffmpeg speaks other protocols with than HTTP: one server that the operator has named.

ffmpeg is given a port of ours on loopback in the server's place, so it looks no name up, and what
it is told to go to (a redirect of RTSP, another source of RTP) it does not learn.
"""

import contextlib
import logging
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from flows.capture.net.address import STREAM_SCHEMES, Address, AddressPolicy, read_host
from flows.capture.net.connection import tls_context
from flows.capture.redaction import shorten
from flows.capture.segment import SourceUnreachable, UnsafeURL
from flows.capture.stopping import Patience

_log = logging.getLogger(__name__)

IDLE_S: Final = 30.0
_CHUNK_BYTES: Final = 64 * 1024
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_BODY_BYTES: Final = 256 * 1024
_DATAGRAM_BYTES: Final = 65536
_LOOK_S: Final = 0.2
_CLOSE_S: Final = 1.0

_PLAIN: Final = {"rtmps": "rtmp", "rtsps": "rtsp"}
"""TLS is spoken here, and not by ffmpeg, which would not know whose certificate to expect."""

_SRT_OPTIONS: Final = frozenset(
    {"streamid", "passphrase", "pbkeylen", "latency", "rcvlatency", "peerlatency", "transtype"}
)
"""What an address of SRT may say: nothing of who listens where."""

_STATUS: Final = re.compile(rb"RTSP/1\.0 (\d{3})(?: [^\r\n\0]*)?")
_HEADER: Final = re.compile(rb"([A-Za-z-]{1,40}): *([^\r\n\0]*)")
_PASSED_ON: Final = frozenset(
    b"cseq session transport content-type content-length content-base public range rtp-info "
    b"www-authenticate server date".split()
)

Connect = Callable[[str, int], AbstractContextManager[socket.socket]]
Keeping = Callable[[socket.socket], AbstractContextManager[object]]


def _look_up(url: str, policy: AddressPolicy, patience: Patience | None) -> tuple[Address, ...]:
    look_up = partial(policy.check, url, schemes=STREAM_SCHEMES)
    return (patience or Patience()).run(look_up, name="capture-name")


class Replies:
    """The replies of an RTSP server (RFC 2326), and the packets between them (10.12).

    Those that lead elsewhere are none that ffmpeg gets.
    """

    def __init__(self, shown: str) -> None:
        """Have read nothing. shown: what to call the server."""
        self._shown, self._buffer = shown, bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on of what came; raises UnsafeURL, SourceUnreachable."""
        self._buffer += data
        passed = bytearray()
        while part := self._take():
            passed += part
        return bytes(passed)

    def _take(self) -> bytes:
        """Return the next packet or reply as it is passed on; nothing while it is not whole."""
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            del buffer[:2]
        if buffer.startswith(b"$"):
            size = 4 + int.from_bytes(buffer[2:4], "big")
            return self._cut(size) if len(buffer) >= max(4, size) else b""
        head, end, _ = bytes(buffer[:_MAX_HEAD_BYTES]).partition(b"\r\n\r\n")
        if not end:
            if len(buffer) >= _MAX_HEAD_BYTES:
                raise SourceUnreachable(f"{self._shown}: a reply without end")
            return b""
        lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(lines[0])
        headers = [_HEADER.fullmatch(line) for line in lines[1:]]
        if status is None or None in headers:
            raise SourceUnreachable(f"{self._shown}: what came is no reply of RTSP")
        if status[1].startswith(b"3"):
            raise UnsafeURL(
                f"{self._shown}: it redirects, which is not followed; name what it leads to instead"
            )
        kept = [each for each in headers if each and each[1].lower() in _PASSED_ON]
        sizes = [each[2] for each in kept if each[1].lower() == b"content-length"]
        if len(sizes) > 1 or not all(size.isdigit() and len(size) < 7 for size in sizes):
            raise SourceUnreachable(f"{self._shown}: a reply without a size")
        n_bytes = int(sizes[0]) if sizes else 0
        if n_bytes > _MAX_BODY_BYTES:
            raise SourceUnreachable(f"{self._shown}: a reply larger than {_MAX_BODY_BYTES} bytes")
        if len(buffer) < len(head) + 4 + n_bytes:
            return b""
        self._cut(len(head) + 4)
        said = [b"RTSP/1.0 " + status[1] + b" -", *(each[1] + b": " + each[2] for each in kept)]
        return b"\r\n".join([*said, b"", b""]) + self._cut(n_bytes)

    def _cut(self, n_bytes: int) -> bytes:
        part = bytes(self._buffer[:n_bytes])
        del self._buffer[:n_bytes]
        return part


class Forward:
    """Carries one connection of ffmpeg to the server of an rtmp or rtsp URL.

    Raises UnsafeURL, SourceUnreachable where the operator has not named that server.
    """

    def __init__(self, url: str, policy: AddressPolicy, patience: Patience | None = None) -> None:
        """Look the server up, once; nothing is connected to yet. Raises what ends the patience."""
        self._url = url
        self._addresses = _look_up(url, policy, patience)
        self._host, port = read_host(url, schemes=STREAM_SCHEMES)
        self._port = port or 0
        self._taken = threading.Lock()

    def at(self, port: int) -> str:
        """Return what ffmpeg is to open, where this answers on that port of loopback."""
        parts = urlsplit(self._url)
        scheme = _PLAIN.get(parts.scheme, parts.scheme)
        # A query of RTSP chooses the transport; ffmpeg takes what is chosen for it.
        query = "" if scheme == "rtsp" else parts.query
        return parts._replace(scheme=scheme, netloc=f"127.0.0.1:{port}", query=query).geturl()

    def serve(self, client: socket.socket, *, connect: Connect, keeping: Keeping) -> None:
        """Carry a connection: the first, since ffmpeg makes one; raises CaptureError, OSError."""
        if not self._taken.acquire(blocking=False):
            return
        replies = Replies(shorten(self._url)) if "rtsp" in self._url[:5] else None
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(connect(str(self._addresses[0]), self._port))
            if urlsplit(self._url).scheme in _PLAIN:
                server.settimeout(IDLE_S)
                server = tls_context().wrap_socket(server, server_hostname=self._host)
                stack.enter_context(keeping(server))
            _carry(client, server, replies)


def _carry(client: socket.socket, server: socket.socket, replies: Replies | None) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while ready := selector.select(IDLE_S):
            for key, _ in ready:
                if key.fileobj is client:
                    data = client.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    server.sendall(data)
                    continue
                more = True
                while more:
                    data = server.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    client.sendall(replies.feed(data) if replies else data)
                    # What TLS has read already wakes no selector.
                    more = isinstance(server, ssl.SSLSocket) and server.pending() > 0


class Datagrams:
    """Carries the datagrams of ffmpeg to and from the server of an srt URL, and no other.

    A door of its own (`process.Door`), as `Guard` is for what is spoken over TCP.
    """

    kind: Literal["udp"] = "udp"

    def __init__(self, url: str, policy: AddressPolicy, patience: Patience | None = None) -> None:
        """Look the server up, once; raises UnsafeURL, SourceUnreachable, what ends the patience."""
        parts = urlsplit(url)
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _SRT_OPTIONS:
                raise UnsafeURL(f"{shorten(url)}: {name[:20]!r} may not stand in an srt address")
        address = _look_up(url, policy, patience)[0]
        self._server = (str(address), read_host(url, schemes=STREAM_SCHEMES)[1] or 0)
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._parts = parts
        self._stopping = threading.Event()
        self._inner: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """What ffmpeg is to open."""
        return self._parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    def open(self) -> Self:
        """Take a port; raises OSError."""
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.bind(("127.0.0.1", 0))
        self.port = self._inner.getsockname()[1]
        self._begin()
        return self

    def move(self, inner: socket.socket) -> None:
        """Take what comes from this socket, and nothing more from the one before."""
        self.close()
        self._stopping.clear()
        self._inner = inner
        self._begin()

    def check(self) -> None:
        """Raise nothing: nothing leads elsewhere here."""

    def close(self) -> None:
        """End it, and wait for that."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _log.error("what carries the datagrams of ffmpeg does not end")
            self._thread = None

    def _begin(self) -> None:
        self._thread = threading.Thread(
            target=self._carry, args=(self._inner,), name="capture-datagrams", daemon=True
        )
        self._thread.start()

    def _carry(self, inner: socket.socket) -> None:
        client: tuple[str, int] | None = None
        with (
            inner,
            socket.socket(self._family, socket.SOCK_DGRAM) as outer,
            selectors.DefaultSelector() as selector,
        ):
            for each in (inner, outer):
                each.setblocking(False)  # a datagram that cannot be sent now is lost, as on any way
                selector.register(each, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                outer.connect(self._server)
            while not self._stopping.is_set():
                for key, _ in selector.select(_LOOK_S):
                    # A server that is not there is told by an error, again and again.
                    with contextlib.suppress(OSError):
                        if key.fileobj is outer:
                            data = outer.recv(_DATAGRAM_BYTES)
                            if client is not None:
                                inner.sendto(data, client)
                            continue
                        data, sender = inner.recvfrom(_DATAGRAM_BYTES)
                        client = client or sender
                        if sender == client:
                            outer.send(data)
