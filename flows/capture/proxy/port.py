"""A port on loopback that serves one of our child processes.

All users of this machine can connect to it: number and duration of connections are bounded.
"""

import contextlib
import logging
import math
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, Self

from flows.capture.waits import Stopped, WaitLimit

_log = logging.getLogger(__name__)

IDLE_S: Final = 60.0
"""Seconds without traffic after which a connection is closed."""

MAX_CONNECTIONS: Final = 64
"""Most connections at once; further ones are closed at once."""

CHUNK_BYTES: Final = 64 * 1024
"""Bytes of one read."""

_CLOSE_S: Final = 2.0
"""Seconds to wait for the threads of connections that were shut down."""

_LOOK_S: Final = 0.5
"""Seconds between two checks for connections past their deadline."""

_PAUSE_S: Final = 0.1


def arriving(server: socket.socket) -> Iterator[bytes]:
    """Yield the available data of a readable connection; b"" at its end.

    Includes data that TLS has buffered, which does not wake a selector.
    """
    while True:
        yield server.recv(CHUNK_BYTES)
        if not isinstance(server, ssl.SSLSocket) or not server.pending():
            return


class Port:
    """Listens while it is open, and serves each connection by `answer`, on its own thread.

    Use as a context manager, or `open` and `close`.
    """

    kind: Literal["tcp"] = "tcp"

    def __init__(self) -> None:
        """Keep the arguments; nothing is opened yet."""
        self._wait_limit = WaitLimit()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[socket.socket, float] = {}
        self._threads: list[threading.Thread] = []
        self._acceptor: threading.Thread | None = None
        self.port = 0

    def __enter__(self) -> Self:
        """Listen."""
        return self.open()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def open(self) -> Self:
        """Listen; raises OSError."""
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._listen(socket.create_server(("127.0.0.1", 0), backlog=MAX_CONNECTIONS))
        self._acceptor = threading.Thread(target=self._accept, name="capture-guard", daemon=True)
        self._acceptor.start()
        return self

    def move(self, inner: socket.socket) -> None:
        """Listen on this socket instead of the one that all users can reach."""
        self._unlisten()
        self._listen(inner)

    def close(self) -> None:
        """End all connections, and wait for their threads."""
        if self._acceptor is None:
            return
        self._wait_limit.stopping.set()
        self._cut(math.inf)
        self._wake.close()
        end = time.monotonic() + _CLOSE_S
        # First the acceptor: then the list has all connections' threads.
        self._acceptor.join(_CLOSE_S)
        for thread in [self._acceptor, *self._threads]:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                _log.error("a connection of the capture's proxy does not end")
        self._unlisten()
        self._selector.close()
        self._woken.close()
        self._acceptor = None

    def answer(self, client: socket.socket) -> None:
        """Serve a connection; may raise OSError, Stopped."""
        raise NotImplementedError

    # -- one thread accepts, and each connection has one

    def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        while not self._wait_limit.stopping.is_set():
            ready = self._selector.select(_LOOK_S)
            self._cut(time.monotonic())
            for key, _ in ready:
                if key.fileobj is not self._woken and isinstance(key.fileobj, socket.socket):
                    self._take(key.fileobj)

    def _take(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # It was moved; or there are no more files, until some are closed.
            self._wait_limit.stopping.wait(_PAUSE_S)
            return
        self._threads = [each for each in self._threads if each.is_alive()]
        if len(self._threads) >= MAX_CONNECTIONS:
            client.close()
            return
        thread = threading.Thread(
            target=self._serve, args=(client,), name="capture-guard", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        # Either side may close at any time; not an error.
        with client, contextlib.suppress(OSError, Stopped):
            self.answer(client)

    @contextlib.contextmanager
    def keeping(
        self, each: socket.socket, *, most_s: float = math.inf
    ) -> Iterator[Callable[[float], None]]:
        """Let `close`, or a deadline, shut a connection down; it is closed at the end.

        Yields a function that sets a new deadline, in seconds from now.
        """
        # A duplicate: a handle that was given to TLS can't be used any more.
        with each, socket.socket(fileno=os.dup(each.fileno())) as handle:

            def allow(seconds: float) -> None:
                with self._lock:
                    self._sockets[handle] = time.monotonic() + seconds

            allow(most_s)
            try:
                each.settimeout(IDLE_S)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._wait_limit.require()
                yield allow
            finally:
                with self._lock:
                    self._sockets.pop(handle)

    def _cut(self, now: float) -> None:
        """Shut down the connections past their deadline."""
        with self._lock:
            for each, end in self._sockets.items():
                if end <= now:
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
