"""Forwards ffmpeg's connections other than HTTP to one server that the operator allows.

ffmpeg gets our port on loopback instead of the server: it resolves no host names, and does not see
redirects (of RTSP, or another RTP source).
"""

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from flows.capture.net.address import STREAM_SCHEMES, Address, AddressPolicy, read_host
from flows.capture.net.connection import tls_context
from flows.capture.proxy.port import CHUNK_BYTES, arriving
from flows.capture.proxy.rtsp_replies import Replies
from flows.capture.proxy.rtsp_requests import Requests
from flows.capture.segment import UnsafeURL
from flows.capture.waits import WaitLimit

_log = logging.getLogger(__name__)

IDLE_S: Final = 30.0
_DATAGRAM_BYTES: Final = 65536
_LOOK_S: Final = 0.2
_CLOSE_S: Final = 1.0

_PLAIN: Final = {"rtmps": "rtmp", "rtsps": "rtsp"}
"""TLS is done here: ffmpeg does not know the server's name, so it can't verify a certificate."""

_SRT_OPTIONS: Final = frozenset(
    {"streamid", "passphrase", "pbkeylen", "latency", "rcvlatency", "peerlatency", "transtype"}
)
"""Allowed parameters of an SRT URL: none that choose addresses or listening mode."""


def rtmp_options(path: str) -> dict[str, str]:
    """Return an rtmp URL's path and query as ffmpeg splits it: application and name of the stream.

    As `rtmp_open` in FFmpeg's libavformat/rtmpproto.c. Empty where it names no stream.
    """
    app, slash, name = path.removeprefix("/").partition("/")
    if not slash or "slist=" in path:
        return {}
    instance, slash, rest = name.partition("/")
    if slash and app != "ondemand" and ":" not in instance:
        app, name = f"{app}/{instance}", rest
    if ":" not in name and name.endswith((".f4v", ".mp4")):
        name = f"mp4:{name}"
    return {"rtmp_app": app, "rtmp_playpath": name.removesuffix(".flv")}


Connect = Callable[[str, int], AbstractContextManager[socket.socket]]
Keeping = Callable[[socket.socket], AbstractContextManager[object]]


def _server_of(url: str) -> str:
    """Return a URL's scheme, host and port, for errors: its path may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _look_up(url: str, policy: AddressPolicy, wait_limit: WaitLimit | None) -> tuple[Address, ...]:
    look_up = partial(policy.check, _server_of(url), schemes=STREAM_SCHEMES)
    return (wait_limit or WaitLimit()).run(look_up, name="capture-name")


class Forward:
    """Forwards one connection of ffmpeg to the server of an rtmp or rtsp URL.

    Raises UnsafeURL where the operator does not allow the server, SourceUnreachable.
    """

    def __init__(
        self,
        url: str,
        policy: AddressPolicy,
        wait_limit: WaitLimit | None = None,
        *,
        user: str = "",
        password: str = "",
    ) -> None:
        """Resolve the server's name once; nothing is connected to yet. Raises Stopped.

        user, password: for an rtsp server that needs a login.
        """
        self._url, self._user, self._password = url, user, password
        self._inner = ""
        self._addresses = _look_up(url, policy, wait_limit)
        self._host, port = read_host(url, schemes=STREAM_SCHEMES)
        self._port = port or 0
        self._taken = threading.Lock()

    def at(self, port: int) -> str:
        """Return the URL for ffmpeg, with this port of loopback."""
        parts = urlsplit(self._url)
        scheme = _PLAIN.get(parts.scheme, parts.scheme)
        if scheme == "rtsp":
            # Not the real path and query: the path may be secret, the query sets ffmpeg options.
            self._inner = f"rtsp://127.0.0.1:{port}/stream"
            return self._inner
        return f"{scheme}://127.0.0.1:{port}" if self.options else self._plain(scheme, port)

    def _plain(self, scheme: str, port: int) -> str:
        return urlsplit(self._url)._replace(scheme=scheme, netloc=f"127.0.0.1:{port}").geturl()

    @property
    def options(self) -> dict[str, str]:
        """Options of ffmpeg's input instead of an rtmp URL's path, which ffmpeg would log."""
        parts = urlsplit(self._url)
        if not parts.scheme.startswith("rtmp"):
            return {}
        return rtmp_options(f"{parts.path}?{parts.query}" if parts.query else parts.path)

    def serve(self, client: socket.socket, *, connect: Connect, keeping: Keeping) -> None:
        """Forward the first connection, as ffmpeg makes one; raises CaptureError, OSError."""
        if not self._taken.acquire(blocking=False):
            return
        requests: Requests | None = None
        replies: Replies | None = None
        if self._url.startswith("rtsp"):
            requests = Requests(
                inner=self._inner, outer=self._url, user=self._user, password=self._password
            )
            replies = Replies(_server_of(self._url), requests)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(connect(str(self._addresses[0]), self._port))
            if urlsplit(self._url).scheme in _PLAIN:
                server.settimeout(IDLE_S)
                server = tls_context().wrap_socket(server, server_hostname=self._host)
                stack.enter_context(keeping(server))
            _carry(client, server, replies, requests)


def _carry(
    client: socket.socket,
    server: socket.socket,
    replies: Replies | None,
    requests: Requests | None,
) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        while ready := selector.select(IDLE_S):
            for key, _ in ready:
                if key.fileobj is client:
                    data = client.recv(CHUNK_BYTES)
                    if not data:
                        return
                    server.sendall(requests.feed(data) if requests else data)
                    continue
                for data in arriving(server):
                    if not data:
                        return
                    client.sendall(replies.feed(data) if replies else data)
                    if replies is not None and replies.retry:
                        server.sendall(replies.retry)
                        replies.retry = b""


class Datagrams:
    """Forwards ffmpeg's datagrams to and from the server of an srt URL only.

    It is the tool's endpoint (`processes.Endpoint`), as `Guard` is for TCP.
    """

    kind: Literal["udp"] = "udp"

    def __init__(
        self, url: str, policy: AddressPolicy, wait_limit: WaitLimit | None = None
    ) -> None:
        """Resolve the server's name once; raises UnsafeURL, SourceUnreachable, as `WaitLimit`."""
        parts = urlsplit(url)
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _SRT_OPTIONS:
                raise UnsafeURL(f"{_server_of(url)}: {name[:20]!r} is not allowed in an srt URL")
        address = _look_up(url, policy, wait_limit)[0]
        self._server = (str(address), read_host(url, schemes=STREAM_SCHEMES)[1] or 0)
        self._family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._parts = parts
        self._stopping = threading.Event()
        self._inner: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The URL for ffmpeg."""
        return f"srt://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """Options of ffmpeg's input instead of the URL's query, which ffmpeg would log."""
        # ffmpeg's own -streamid is another option.
        names = {"streamid": "srt_streamid"}
        return {names.get(name, name): value for name, value in parse_qsl(self._parts.query)}

    def open(self) -> Self:
        """Listen on a port; raises OSError."""
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.bind(("127.0.0.1", 0))
        self.port = self._inner.getsockname()[1]
        self._begin()
        return self

    def move(self, inner: socket.socket) -> None:
        """Serve this socket instead of the one before."""
        self.close()
        self._stopping.clear()
        self._inner = inner
        self._begin()

    def check(self) -> None:
        """Do nothing: there are no redirects here."""

    def close(self) -> None:
        """Stop forwarding, and wait for the thread's end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                _log.error("the thread that forwards ffmpeg's datagrams does not end")
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
                each.setblocking(False)  # a datagram that can't be sent now is dropped, as on UDP
                selector.register(each, selectors.EVENT_READ)
            with contextlib.suppress(OSError):
                outer.connect(self._server)
            while not self._stopping.is_set():
                for key, _ in selector.select(_LOOK_S):
                    # An absent server causes an ICMP error for each packet.
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
