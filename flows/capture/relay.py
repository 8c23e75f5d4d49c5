"""A stream under another name: what ffmpeg is given to open, so that it knows no secret.

Its command line is seen by every user of the machine, and it logs whatever it opens. So it is
given addresses of a server that is nowhere, and asks our proxy for them (`flows.capture.guard`),
which fetches what they stand for: with the headers that belong there, and in a playlist with every
address replaced by another such name.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final
from urllib.parse import urljoin, urlsplit

from flows.capture.address import read_host
from flows.capture.headers import Headers
from flows.capture.playlist import MAX_PLAYLIST_BYTES
from flows.capture.segment import CaptureError, SourceUnreachable, UnsafeURL

BAD_GATEWAY: Final = 502
"""What is answered for a server that can't be reached."""

MAX_REDIRECTS: Final = 5
_HOST: Final = "stream.test"  # RFC 6761, 6.2: nobody has it
_MOST_NAMES: Final = 20_000
_CHUNK_BYTES: Final = 64 * 1024
_LONGEST_HEAD: Final = 7
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSED_ON: Final = ("Content-Type", "Content-Range", "Content-Encoding", "Accept-Ranges")
_REQUEST = re.compile(rb"GET http://" + _HOST.encode() + rb"(?::80)?(/[^ ]*) HTTP/1\.[01]\r\n")
_SENT = re.compile(rb"^(Range|User-Agent): *([^\r\n]*)\r?$", re.IGNORECASE | re.MULTILINE)
_URI = re.compile(r'URI="([^"]*)"')

Connect = Callable[[str, int], AbstractContextManager[socket.socket]]
"""Connects to a host and port, where that is allowed."""

Keeping = Callable[[socket.socket], AbstractContextManager[None]]


class Relay:
    """Names for the addresses of one stream, and what is there.

    url: the stream's. headers: to be sent where they may be known.
    """

    def __init__(self, url: str, headers: Headers) -> None:
        """Name the stream; nothing is fetched yet."""
        self._headers = headers
        self._lock = threading.Lock()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._urls: dict[str, str] = {}
        self._n_named = 0
        self._tls: ssl.SSLContext | None = None
        self.url = self.name(url)
        """What stands for the stream."""

    def name(self, url: str) -> str:
        """Return the address that stands for this one; it ends alike."""
        with self._lock:
            if url not in self._names:
                suffix = re.search(r"\.\w{1,5}$", urlsplit(url).path)
                name = f"/{self._n_named}{suffix[0] if suffix else ''}"
                self._n_named += 1
                self._names[url], self._urls[name] = name, url
                if len(self._names) > _MOST_NAMES:
                    del self._urls[self._names.popitem(last=False)[1]]
            self._names.move_to_end(url)
            return f"http://{_HOST}{self._names[url]}"

    def real(self, address: str) -> str:
        """Return what an address stands for: itself, if we did not make it."""
        parts = urlsplit(address)
        return self._urls.get(parts.path, address) if parts.hostname == _HOST else address

    def takes(self, head: bytes) -> bool:
        """Tell whether a request to the proxy is for one of our addresses."""
        return _REQUEST.match(head) is not None

    def serve(
        self, head: bytes, client: socket.socket, *, connect: Connect, keeping: Keeping
    ) -> None:
        """Answer such a request; raises CaptureError where nothing was answered yet, OSError."""
        found = _REQUEST.match(head)
        url = self._urls.get(found[1].decode("ascii", "replace")) if found else None
        if url is None:
            raise SourceUnreachable("an address that stands for nothing", status=404)
        asked = {k.decode().title(): v.decode("latin-1") for k, v in _SENT.findall(head)}
        if asked.get("Range") == "bytes=0-":
            del asked["Range"]
        with self._ask(url, asked, connect, keeping) as (at, response):
            try:
                begin = response.read(_LONGEST_HEAD)
            except (OSError, ValueError, http.client.HTTPException) as e:
                raise SourceUnreachable(f"{at}: {e or type(e).__name__}") from e
            if begin == b"#EXTM3U" and response.status == 200:
                _send_all(client, self._renamed(begin, response, at))
            else:
                _pass_on(client, begin, response)

    @contextlib.contextmanager
    def _ask(
        self, url: str, asked: dict[str, str], connect: Connect, keeping: Keeping
    ) -> Iterator[tuple[str, http.client.HTTPResponse]]:
        for _ in range(MAX_REDIRECTS + 1):
            host, port = read_host(url)
            parts = urlsplit(url)
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(connect(host, port or 80))
                try:
                    if parts.scheme == "https":
                        self._tls = self._tls or _tls_context()
                        server = self._tls.wrap_socket(server, server_hostname=host)
                        stack.enter_context(keeping(server))
                    connection = http.client.HTTPConnection(host, port or 80)
                    stack.callback(connection.close)
                    connection.sock = server
                    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                    sent = (
                        asked
                        | self._headers.of(url)
                        | {"Host": parts.netloc, "Connection": "close"}
                    )
                    connection.request("GET", target, headers=sent)
                    response = stack.enter_context(connection.getresponse())
                except (OSError, ValueError, http.client.HTTPException) as e:
                    raise SourceUnreachable(f"{url}: {e or type(e).__name__}") from e
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location:
                    url = _join(url, location)
                    continue
                if response.status >= 400:
                    raise SourceUnreachable(
                        f"{url}: HTTP status {response.status}", status=response.status
                    )
                yield url, response
                return
        raise SourceUnreachable(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _renamed(self, begin: bytes, response: http.client.HTTPResponse, at: str) -> bytes:
        """Return a playlist with our names for what it lists."""
        try:
            body = begin + response.read(MAX_PLAYLIST_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as e:
            raise SourceUnreachable(f"{at}: {e or type(e).__name__}") from e
        if len(body) > MAX_PLAYLIST_BYTES:
            raise SourceUnreachable(f"{at}: larger than {MAX_PLAYLIST_BYTES} bytes")
        lines = []
        for line in map(str.strip, body.decode(errors="replace").splitlines()):
            if line.startswith("#"):
                lines.append(_URI.sub(lambda uri: f'URI="{self.name(_join(at, uri[1]))}"', line))
            elif line:
                lines.append(self.name(_join(at, line)))
        return "\n".join([*lines, ""]).encode()


def _tls_context() -> ssl.SSLContext:
    import httpx  # which knows the certificates that `Fetcher` trusts

    return httpx.create_ssl_context()


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        raise UnsafeURL(f"{base}: leads to what is no URL") from None


def _send_all(client: socket.socket, body: bytes) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    client.sendall(head.encode() + body)


def _pass_on(client: socket.socket, begin: bytes, response: http.client.HTTPResponse) -> None:
    """Send what comes, as it comes; what breaks off there breaks off here.

    In chunks where its length is not known: ffmpeg takes a mere end for a failure.
    """
    lines = [f"HTTP/1.1 {response.status} OK", "Connection: close"]
    found = ((name, response.headers.get(name)) for name in _PASSED_ON)
    lines += [f"{name}: {value}" for name, value in found if value]
    is_chunked = response.length is None
    if response.length is None:
        lines.append("Transfer-Encoding: chunked")
    else:
        lines.append(f"Content-Length: {len(begin) + response.length}")
    client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    part = begin
    while part:
        client.sendall(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
        try:
            part = response.read1(_CHUNK_BYTES)
        except (OSError, ValueError, http.client.HTTPException):
            return
    if is_chunked:
        client.sendall(b"0\r\n\r\n")


def answer_of(error: CaptureError) -> bytes:
    """Return what a program is answered in place of what it asked for."""
    status = 403 if isinstance(error, UnsafeURL) else getattr(error, "status", None) or BAD_GATEWAY
    body = f"{error}\n".encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
