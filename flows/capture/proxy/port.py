"""A port on loopback that serves one of our child processes, as long as it runs.

Every user of this machine can connect to it: the number and duration of connections are bounded.
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
"""Most connections at once; one more is closed as it comes."""

CHUNK_BYTES: Final = 64 * 1024
"""So much of what came is read at once."""

_CLOSE_S: Final = 2.0
"""Seconds to wait for the threads of connections that were cut."""

_LOOK_S: Final = 0.5
"""How often it is looked for connections whose time is up."""

_PAUSE_S: Final = 0.1


def arriving(server: socket.socket) -> Iterator[bytes]:
    """Yield what has come of a connection that can be read, b"" where it has ended.

    What TLS has read already wakes no selector, so that comes with it.
    """
    while True:
        yield server.recv(CHUNK_BYTES)
        if not isinstance(server, ssl.SSLSocket) or not server.pending():
            return


class Port:
    """Listens while it is open, and has `answer` serve each connection in a thread of its own.

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
        """Listen on this socket from now on, and no longer where everybody may come."""
        self._unlisten()
        self._listen(inner)

    def close(self) -> None:
        """End all connections, and wait until nothing of it is left."""
        if self._acceptor is None:
            return
        self._wait_limit.stopping.set()
        self._cut(math.inf)
        self._wake.close()
        end = time.monotonic() + _CLOSE_S
        # One that it has just accepted is among the others only when it has ended.
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
        # Either side may close at any moment, which is no error.
        with client, contextlib.suppress(OSError, Stopped):
            self.answer(client)

    @contextlib.contextmanager
    def keeping(
        self, each: socket.socket, *, most_s: float = math.inf
    ) -> Iterator[Callable[[float], None]]:
        """Have `close`, or the end of its time, shut a connection down; it is closed at the end.

        Gives what allows it so long from then on.
        """
        # Another handle: the one that is given to TLS is no longer of use.
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
        """End the connections whose time is up by then."""
        with self._lock:
            for each, end in self._sockets.items():
                if end <= now:
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
