"""Fetches over HTTP what the address policy allows, with bounded size and time.

Each connection goes to exactly the address that the policy has checked: host names are resolved
once a connection, here (no DNS rebinding). A proxy resolves names itself: only the operator's is
used (`AddressPolicy.upstream`).
"""

import contextlib
import logging
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

import httpcore
import httpx

from flows.capture.headers import Headers
from flows.capture.net.address import AddressPolicy, read_host
from flows.capture.net.connection import Allowance
from flows.capture.net.cookies import FewCookies
from flows.capture.net.data_urls import data_of
from flows.capture.net.decoding import ACCEPTED, chunks_of
from flows.capture.net.playlist_queries import PlaylistQueries
from flows.capture.net.retry_after import retry_after_s
from flows.capture.net.transport import PinnedTransport, reason_of
from flows.capture.playlists.addresses import DATA
from flows.capture.playlists.playlist import MAX_PLAYLIST_BYTES, Part, Playlist, parse_playlist
from flows.capture.playlists.signing import Queries
from flows.capture.playlists.tags import EMPTY, STRIPPED_CHARS
from flows.capture.segment import RANGE_NOT_THERE, NoStream, SourceUnreachable
from flows.capture.stream import Loaded
from flows.capture.waits import WaitLimit

MAX_REDIRECTS: Final = 5
MAX_SECONDS: Final = 30.0
"""Time limit of a request: DNS, connections, redirects, headers and body together."""

_MAX_HEAD_BYTES: Final = 256 * 1024
"""Limit before a response's body, including informational responses (RFC 9110, 15.2)."""

_OVERHEAD_BYTES: Final = 1024 * 1024
_USUAL_TARGET_S: Final = 2.0

_FAILURES: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    UnicodeError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A response: the URL it came from, after redirects, and the body."""

    url: str
    body: bytes


class Sink(Protocol):
    """The target of a download: a file, or an object with its `write`."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes; raises OSError."""


class Fetcher:
    """An HTTP client that checks the policy before every connection, redirects included.

    headers: of requests, each for the hosts that may get it. cookies: the initial ones; servers'
    cookies are added. queries: signing queries for the URLs of playlists. timeout_s: without any
    received byte. request_s: for a whole request. stopping: once set, by any thread, waits raise
    Stopped. Use as a context manager; the client opens at first use.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        headers: Headers | None = None,
        cookies: FewCookies | None = None,
        queries: Queries | None = None,
        timeout_s: float = 4.0,
        request_s: float = MAX_SECONDS,
        stopping: threading.Event | None = None,
    ) -> None:
        """Keep the arguments; nothing is opened yet."""
        self._wait_limit, self._allowance = WaitLimit(stopping), Allowance()
        self._policy, self._headers = policy, headers or Headers()
        self._cookies = FewCookies() if cookies is None else cookies
        self._queries = queries or Queries()
        self._playlist_queries = PlaylistQueries()
        self.timeout_s, self._request_s = timeout_s, request_s
        self._client: httpx.Client | None = None

    def twin(self) -> "Fetcher":
        """Return another for another thread: the same rules, headers and cookies."""
        return Fetcher(
            self._policy,
            headers=self._headers,
            cookies=self._cookies,
            queries=self._queries,
            timeout_s=self.timeout_s,
            request_s=self._request_s,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def stopping(self) -> threading.Event:
        """The event that ends its waits."""
        return self._wait_limit.stopping

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def check(self, urls: Iterable[str]) -> None:
        """Check URLs by their text, without DNS; raises UnsafeURL.

        Host names are resolved and checked when they are connected to.
        """
        self._policy.check_unresolved(urls)

    def get_playlist(self, url: str, *, variables: Mapping[str, str] | None = None) -> Playlist:
        """Fetch and parse a playlist; raises as `get`, and NoStream if it is not one.

        variables: of its master playlist.
        """
        return self.read_playlist(self.load(url), variables=variables)

    def load(self, url: str, *, held_s: float = 0.0) -> Loaded:
        """Fetch a playlist without parsing it; raises as `get`.

        held_s: how long the server may block the request.
        """
        requested_at = time.monotonic()

        def get(url: str) -> Fetched:
            return self.get(url, max_bytes=MAX_PLAYLIST_BYTES, held_s=held_s)

        fetched = self._playlist_queries.fetch(url, get)
        text = fetched.body.decode(errors="replace")
        return Loaded(url=url, found_at=fetched.url, text=text, at=requested_at)

    def read_playlist(
        self, loaded: Loaded, *, variables: Mapping[str, str] | None = None
    ) -> Playlist:
        """Parse a fetched playlist, which may be empty; raises NoStream if it is not one."""
        self._playlist_queries.note(loaded.found_at)
        text = loaded.text if loaded.text.strip(STRIPPED_CHARS) else EMPTY
        return self._queries.sign(parse_playlist(text, loaded.found_at, variables))

    def read_again(
        self, loaded: Loaded | None, url: str, *, variables: Mapping[str, str] | None = None
    ) -> Playlist | None:
        """Parse a playlist fetched before; None once it is due for a reload (RFC 8216, 6.3.4)."""
        if loaded is None or loaded.url != url:
            return None
        found = self.read_playlist(loaded, variables=variables)
        is_fresh = time.monotonic() - loaded.at < (found.target_s or _USUAL_TARGET_S)
        return found if is_fresh else None

    def get(
        self, url: str, *, max_bytes: int, head_only: bool = False, held_s: float = 0.0
    ) -> Fetched:
        """Return the response to a GET request.

        head_only: stop at `max_bytes`; else more is an error. held_s: how long the server may block
        the request. Raises UnsafeURL, SourceUnreachable (no response, or an error status), NoStream
        (too large).
        """
        headers = {"accept-encoding": ACCEPTED}
        with self._open(url, headers, max_bytes=max_bytes, held_s=held_s) as (found_at, response):
            body = bytearray()
            for chunk in chunks_of(response, found_at, is_text=True):
                body += chunk
                if len(body) >= max_bytes and head_only:
                    break
                if len(body) > max_bytes:
                    raise NoStream(f"{found_at}: larger than {max_bytes} bytes")
            return Fetched(url=found_at, body=bytes(memoryview(body)[:max_bytes]))

    def download(self, part: Part, into: Sink, *, max_bytes: int) -> int:
        """Write a part to a sink, and return its size in bytes; raises as `get`, and OSError.

        A server without byte ranges sends the whole file: the part is cut out of it. What a
        playlist contains itself (`data:`) is taken from there. Where a server refuses a request,
        it is repeated with its playlists' queries.
        """
        if part.url.startswith(DATA):
            data = data_of(part, max_bytes=max_bytes)
            into.write(data)
            return len(data)

        def download(url: str) -> int:
            return self._download(replace(part, url=url), into, max_bytes=max_bytes)

        return self._playlist_queries.fetch(part.url, download)

    def _download(self, part: Part, into: Sink, *, max_bytes: int) -> int:
        headers = {"accept-encoding": "identity"}
        skip, want = 0, part.length
        if want is not None:
            headers["range"] = f"bytes={part.offset}-{part.offset + want - 1}"
            max_bytes = min(max_bytes, want)
        written = 0
        most = part.offset + max_bytes
        with self._open(part.url, headers, max_bytes=most) as (url, response):
            if want is not None and response.status_code != 206:
                skip = part.offset
            for chunk in chunks_of(response, url):
                skipped = min(skip, len(chunk))
                skip -= skipped
                piece = chunk[skipped:]
                if written + len(piece) > max_bytes:
                    if want is None:
                        raise NoStream(f"{url}: larger than {max_bytes} bytes")
                    piece = piece[: max_bytes - written]
                into.write(piece)
                written += len(piece)
                if written == want:
                    break
        if want is not None and written != want:
            why = f"{part.url}: only {written} of {want} bytes were received"
            raise SourceUnreachable(why, status=RANGE_NOT_THERE)
        return written

    @contextlib.contextmanager
    def streaming(self, url: str) -> Iterator[Iterator[bytes]]:
        """Yield the response's bytes as they arrive, without a time limit; raises as `get`.

        Not decoded: media are never compressed.
        """
        with self._open(url, {"accept-encoding": "identity"}, max_bytes=0) as (_, response):
            self._wait_limit.ends_at, self._allowance.left_bytes = math.inf, sys.maxsize
            yield response.iter_raw()

    @contextlib.contextmanager
    def _open(
        self, url: str, headers: dict[str, str], *, max_bytes: int, held_s: float = 0.0
    ) -> Iterator[tuple[str, httpx.Response]]:
        """Yield the URL after redirects, and the response, whose body is read within."""
        client = self._client = self._client or self._make_client()
        self._wait_limit.ends_at = time.monotonic() + self._request_s + held_s
        wait_s = self.timeout_s + held_s
        try:
            for _ in range(MAX_REDIRECTS + 1):
                read_host(url)
                sent = self._headers.of(url) | headers
                self._allowance.left_bytes = _MAX_HEAD_BYTES
                with client.stream("GET", url, headers=sent, timeout=wait_s) as response:
                    if response.next_request is not None:
                        url = str(response.next_request.url)
                        continue
                    if response.status_code >= 400:
                        raise SourceUnreachable(
                            f"{url}: HTTP status {response.status_code}",
                            status=response.status_code,
                            retry_after_s=retry_after_s(response),
                        )
                    # Twice: with tiny chunks, half of the bytes are chunk headers.
                    self._allowance.left_bytes = 2 * max_bytes + _OVERHEAD_BYTES
                    yield url, response
                    return
        except _FAILURES as e:
            if time.monotonic() >= self._wait_limit.ends_at:
                raise SourceUnreachable(f"{url}: not complete within {self._request_s:g} s") from e
            raise SourceUnreachable(f"{url}: {reason_of(e)}") from e
        finally:
            self._wait_limit.ends_at = math.inf
        raise SourceUnreachable(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _make_client(self) -> httpx.Client:
        for name in ("httpx", "httpcore"):
            # They would log whole URLs, and responses with their cookies.
            logging.getLogger(name).setLevel(logging.WARNING)
        return httpx.Client(
            transport=PinnedTransport(self._policy, self._wait_limit, self._allowance),
            follow_redirects=False,
            cookies=self._cookies,
        )
