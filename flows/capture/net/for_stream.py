"""Makes a fetcher with a stream's headers, cookies and queries."""

import threading

from flows.capture.net.address import AddressPolicy
from flows.capture.net.cookies import FewCookies
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.signing import Queries
from flows.capture.stream import Stream


def fetcher_for(
    stream: Stream,
    policy: AddressPolicy,
    *,
    cookies: FewCookies | None = None,
    stopping: threading.Event | None = None,
    timeout_s: float = 4.0,
) -> Fetcher:
    """Return the fetcher, not opened yet. cookies: a jar shared with others; else its own."""
    return Fetcher(
        policy,
        headers=stream.sent,
        cookies=FewCookies.of(stream.cookies) if cookies is None else cookies,
        queries=Queries(segments=stream.segment_query, keys=stream.key_query),
        timeout_s=timeout_s,
        stopping=stopping,
    )
