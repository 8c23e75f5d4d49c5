"""A small HTTP server whose threads and sockets end when it is stopped."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import BaseServer
from typing import Any, Final

_IDLE_S: Final = 30.0
"""Seconds without a request after which a kept-alive connection is closed."""

_PARTS: Final = 16
"""Parts that a slow response is sent in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request: when (aware UTC), its path, and the status of the response (0: reset).

    headers: by their names in lower case.
    """

    at: datetime
    path: str
    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer.

    keep_bytes: send only so many of the body's bytes, though its whole length was announced, and
    close. stall: called after what is sent, and expected to block. over_s: send it over so many
    seconds, with `pause` between its parts. reset: answer with a TCP reset. location: where a
    redirect leads. headers: more of them.
    """

    status: int = 200
    content_type: str = "text/plain"
    body: bytes = b""
    keep_bytes: int | None = None
    stall: Callable[[], object] | None = None
    over_s: float = 0.0
    pause: Callable[[float], object] | None = None
    reset: bool = False
    location: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server: "_Listener"

    def do_GET(self) -> None:
        """Answer GET."""
        path = self.path.partition("?")[0]
        reply = self.server.reply(self.path if self.server.whole else path)
        status = 0 if reply.reset else reply.status
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.log(Request(at=datetime.now(UTC), path=path, status=status, headers=headers))
        if reply.reset:
            self.close_connection = True
            # Lingering for no time makes close() send RST in place of FIN.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        sent = reply.body if reply.keep_bytes is None else reply.body[: reply.keep_bytes]
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        if reply.location is not None:
            self.send_header("Location", reply.location)
        self.end_headers()
        if self.command != "HEAD":
            self._send(sent, reply)
            if reply.stall is not None:
                reply.stall()
            self.close_connection |= len(sent) < len(reply.body)

    do_HEAD = do_GET

    def _send(self, body: bytes, reply: Reply) -> None:
        if reply.pause is None or not reply.over_s:
            self.wfile.write(body)
            return
        size = max(1, len(body) // _PARTS)
        for begin in range(0, len(body), size):
            reply.pause(reply.over_s * size / len(body))
            self.wfile.write(body[begin : begin + size])

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `log` gets the requests."""


class _Listener(HTTPServer):
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        reply: Callable[[str], Reply],
        log: Callable[[Request], object],
        whole: bool,
    ) -> None:
        self.reply, self.log, self.whole = reply, log, whole
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Give each connection a thread that dies with the process."""
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="demo-origin", daemon=True
        )
        with self._lock:
            self._connections.add(request)
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
            # Started while the lock is held: one that is listed and not started can't be joined.
            thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:  # noqa: ANN401
        # The client may close the connection at any time.
        with contextlib.suppress(OSError):
            _Handler(request, client_address, self)
        with self._lock:
            self._connections.discard(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()

    def cut_off(self) -> None:
        """End all connections and join their threads."""
        with self._lock:
            threads = list(self._threads)
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


class HttpServer:
    """Answers GET and HEAD by calling `reply(path)`, one thread a connection.

    port: 0 takes a free one at the first start and keeps it. log: called for every request. whole:
    `reply` is also given the query.
    """

    def __init__(
        self,
        reply: Callable[[str], Reply],
        *,
        host: str,
        port: int,
        log: Callable[[Request], object],
        whole: bool = False,
    ) -> None:
        """Keep the arguments; nothing is opened yet."""
        self.host, self.port, self._whole = host, port, whole
        self._reply, self._log = reply, log
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and serve; raises OSError if the port is taken."""
        self._listener = _Listener((self.host, self.port), self._reply, self._log, self._whole)
        self.port = self._listener.server_address[1]
        self._thread = threading.Thread(
            target=BaseServer.serve_forever,
            args=(self._listener, 0.05),
            name="demo-origin-accept",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection; does nothing if it does not serve."""
        if self._listener is None or self._thread is None:
            return
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()
        self._listener.cut_off()
        self._listener = self._thread = None
