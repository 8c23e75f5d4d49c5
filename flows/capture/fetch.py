"""Fetches over HTTP what the address policy allows, never more than asked for."""

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx

from flows.capture.address import AddressPolicy
from flows.capture.playlist import MAX_PLAYLIST_BYTES, Playlist, parse_playlist
from flows.capture.segment import NoStream, SourceUnreachable

MAX_REDIRECTS: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What came: the URL it came from, after redirects, and the body."""

    url: str
    body: bytes


class Fetcher:
    """An HTTP client that asks the policy before every request, redirects too.

    headers: sent with each request. Use as a context manager; the client opens at first use.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        timeout_s: float = 4.0,
    ) -> None:
        """Remember; nothing is opened yet."""
        self._policy, self._headers, self._timeout_s = policy, headers, timeout_s
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def get_playlist(self, url: str) -> Playlist:
        """Return the playlist at the URL; raises as `get`, and NoStream for what is none."""
        fetched = self.get(url, max_bytes=MAX_PLAYLIST_BYTES)
        return parse_playlist(fetched.body.decode(errors="replace"), fetched.url)

    def get(self, url: str, *, max_bytes: int, head_only: bool = False) -> Fetched:
        """Return what is at the URL.

        head_only: stop at `max_bytes`; else more than that is an error. Raises UnsafeURL,
        SourceUnreachable (no answer, or an error status), NoStream (too much).
        """
        if self._client is None:
            self._client = httpx.Client(
                timeout=self._timeout_s, headers=list(self._headers), follow_redirects=False
            )
        try:
            for _ in range(MAX_REDIRECTS + 1):
                self._policy.check(url)
                with self._client.stream("GET", url) as response:
                    if response.next_request is not None:
                        url = str(response.next_request.url)
                        continue
                    if response.status_code >= 400:
                        raise SourceUnreachable(f"{url}: HTTP status {response.status_code}")
                    return Fetched(url=url, body=_read(response, url, max_bytes, head_only))
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise SourceUnreachable(f"{url}: {e or type(e).__name__}") from e
        raise SourceUnreachable(f"{url}: more than {MAX_REDIRECTS} redirects")


def _read(response: httpx.Response, url: str, max_bytes: int, head_only: bool) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) >= max_bytes and head_only:
            break
        if len(body) > max_bytes:
            raise NoStream(f"{url}: larger than {max_bytes} bytes")
    return bytes(body[:max_bytes])
