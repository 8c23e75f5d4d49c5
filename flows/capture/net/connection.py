"""Connections whose waits (connect, handshake, read, write) are bounded by a WaitLimit."""

import contextlib
import errno
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import httpcore
import httpx

from flows.capture.net.public import Address
from flows.capture.waits import WaitLimit

Result = TypeVar("Result")

_READ: Final = select.POLLIN
_WRITE: Final = select.POLLOUT


def connect(
    address: Address, port: int, *, wait_limit: WaitLimit, timeout_s: float | None
) -> socket.socket:
    """Return a non-blocking connection; raises OSError (TimeoutError), Stopped."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        number = connection.connect_ex((str(address), port))
        if number == errno.EINPROGRESS:
            _wait(connection, _WRITE, wait_limit, _end(timeout_s))
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(slots=True)
class Allowance:
    """Bytes that may still be received in response to a request; set for each request."""

    left_bytes: float = math.inf


class Connection(httpcore.NetworkStream):
    """A non-blocking connection as an httpcore stream."""

    def __init__(
        self, connection: socket.socket, wait_limit: WaitLimit, allowance: Allowance | None = None
    ) -> None:
        """Take over a non-blocking connection."""
        self._socket, self._wait_limit = connection, wait_limit
        self._allowance = allowance or Allowance()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received bytes; empty at the end."""
        with _mapped(httpcore.ReadTimeout, httpcore.ReadError):
            data = self._do(lambda: self._socket.recv(max_bytes), _READ, timeout)
        self._allowance.left_bytes -= len(data)
        if self._allowance.left_bytes < 0:
            raise httpcore.ReadError("the response is larger than allowed")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        with _mapped(httpcore.WriteTimeout, httpcore.WriteError):
            left = memoryview(buffer)
            while left:
                sent = self._do(lambda part=left: self._socket.send(part), _WRITE, timeout)  # type: ignore[misc]
                left = left[sent:]

    def close(self) -> None:
        """Close."""
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Return the connection as it is after the handshake."""
        with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
            try:
                tls = ssl_context.wrap_socket(
                    self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
                )
                self._socket = tls
                self._do(tls.do_handshake, _READ, timeout)
            except BaseException:
                self.close()
                raise
        return self

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        """Return the values that httpcore reads of a connection; None for others."""
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "socket":
            return self._socket
        if info == "is_readable":
            return bool(_poll(self._socket, _READ, 0.0))
        return None

    def _do(self, action: Callable[[], Result], waits_for: int, timeout_s: float | None) -> Result:
        end = _end(timeout_s)
        while True:
            self._wait_limit.step_s(end)
            try:
                return action()
            except ssl.SSLWantReadError:
                event = _READ
            except ssl.SSLWantWriteError:
                event = _WRITE
            except BlockingIOError:
                event = waits_for
            _wait(self._socket, event, self._wait_limit, end)


def _wait(connection: socket.socket, event: int, wait_limit: WaitLimit, end: float) -> None:
    while not _poll(connection, event, wait_limit.step_s(end)):
        pass


def _poll(connection: socket.socket, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, event)
    return bool(poll.poll(math.ceil(1000 * seconds)))


def _end(timeout_s: float | None) -> float:
    return math.inf if timeout_s is None else time.monotonic() + timeout_s


@contextlib.contextmanager
def _mapped(timeout: type[Exception], error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as e:
        raise timeout(str(e)) from e
    except OSError as e:
        raise error(str(e)) from e


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to allowed addresses only; each host is resolved once for each connection.

    addresses_of: resolves a host, and raises for one that is not allowed.
    """

    def __init__(
        self,
        addresses_of: Callable[[str, int], Iterable[Address]],
        wait_limit: WaitLimit,
        allowance: Allowance | None = None,
    ) -> None:
        """Keep the arguments; nothing is connected to yet."""
        self._addresses_of, self._wait_limit = addresses_of, wait_limit
        self._allowance = allowance

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers."""
        failure: Exception | None = None
        for address in self._addresses_of(host, port):
            try:
                with _mapped(httpcore.ConnectTimeout, httpcore.ConnectError):
                    connection = connect(
                        address, port, wait_limit=self._wait_limit, timeout_s=timeout
                    )
                return Connection(connection, self._wait_limit, self._allowance)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as e:
                failure = e
        raise failure or httpcore.ConnectError(f"{host} has no address")


def tls_context() -> ssl.SSLContext:
    """Return a context that verifies certificates, by the environment's CAs or certifi's."""
    return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    # httpx reads both variables itself; cached, as loading the certificates takes 20 ms.
    return httpx.create_ssl_context()
