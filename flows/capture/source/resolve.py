"""A page's URL to the stream behind it, which yt-dlp finds in a box (`source.extraction`).

What comes back from there is read like what a site serves: a URL, a few words, and headers.
"""

import inspect
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from flows.capture.net.address import STREAM_SCHEMES, AddressPolicy, read_host
from flows.capture.net.fetch import Fetcher
from flows.capture.proxy.guard import Guard
from flows.capture.proxy.relay import BAD_GATEWAY
from flows.capture.redaction import clean
from flows.capture.segment import CaptureError, NoStream, NotLive, SourceUnreachable, UnsafeURL
from flows.capture.source.box import Box, OutOfBounds
from flows.capture.stopping import Patience
from flows.capture.stream import Stream

MOST_BYTES: Final = 64 << 20
"""That finding a stream may fetch, in all."""

_TIMES: Final = 4
"""Finding a stream may take so many times as long as one request."""

_LONGEST_TEXT: Final = 500
_MOST_HEADERS: Final = 50
_LONGEST_HEADER: Final = 8192
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""No show is announced for later, and no address lasts longer, whatever a site says."""

_SMUGGLED: Final = "__youtubedl_smuggle"
"""Stands in a URL before orders that yt-dlp's extractors give one another."""

BOX: Final = Box("flows.capture.source.extraction")

_FILES: Final = ("http", "https")
_ENDED: Final = ("was_live", "post_live")


def resolve(
    url: str,
    *,
    policy: AddressPolicy,
    timeout_s: float = 15.0,
    extractors: Sequence[type] = (),
    stopping: threading.Event | None = None,
) -> Stream:
    """Find the live stream behind a URL.

    timeout_s: for each request; in all it may take some times as long. extractors: yt-dlp
    extractors to try before its own. stopping: once this is set, by any thread, it raises Stopped
    at once.
    Raises UnsafeURL before anything is fetched, or for the stream's own address; NoStream;
    NotLive, with `starts_at` for a show that is announced; SourceUnreachable.
    """
    if _SMUGGLED in url:
        raise UnsafeURL(f"{url}: leave out what follows the #: yt-dlp reads orders in it")
    patience = Patience(stopping)
    patience.run(partial(policy.check, url), name="capture-name")
    info = _extract(url, policy, timeout_s, extractors, patience)
    status = _text(info.get("live_status"))
    starts_at = _from_timestamp(info.get("release_timestamp"))
    if status == "is_upcoming":
        when = f"; it is announced for {starts_at:%Y-%m-%d %H:%M} UTC" if starts_at else ""
        raise NotLive(f"{url}: the show has not begun{when}", starts_at=starts_at)
    if status in _ENDED:
        raise NotLive(f"{url}: the show has ended; give a recording of it to `analyze`", final=True)
    stream_url = info.get("url")
    if not stream_url or not isinstance(stream_url, str):
        raise NoStream(f"{url}: no stream to watch here; give the page or playlist of a live video")
    patience.run(partial(policy.check, stream_url, schemes=STREAM_SCHEMES), name="capture-name")
    protocol = _text(info.get("protocol"))
    hls = protocol.startswith("m3u8")
    stream = Stream(
        page_url=url,
        url=stream_url,
        protocol="hls" if hls else "http" if protocol in _FILES else "other",
        live={"is_live": True, "not_live": False}.get(status),
        live_status=status or None,
        # yt-dlp makes both of the address where the site says nothing.
        source_id=_text(info.get("id")),
        # yt-dlp adds the minute to a live video's title.
        title=re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d$", "", _text(info.get("title"))),
        expires_at=_expiry(stream_url),
        starts_at=starts_at,
        headers=_headers(info.get("headers")),
    )
    ended = hls and stream.live is None and _has_ended(stream, policy, timeout_s, stopping)
    # A file at an http address that does not claim to be live is a file.
    if stream.live is False or ended or (stream.live is None and stream.protocol == "http"):
        raise NotLive(
            f"{url}: a recorded video, or a show that has ended, and not on air now", over=True
        )
    return stream


def _extract(
    url: str,
    policy: AddressPolicy,
    timeout_s: float,
    extractors: Sequence[type],
    patience: Patience,
) -> dict[str, Any]:
    port = read_host(url)[1]
    with Guard(policy, ports=[port] if port else [], most_bytes=MOST_BYTES) as guard:
        question = {
            "url": url,
            "proxy": guard.url,
            "timeout_s": timeout_s,
            "extractors": [[e.__module__, inspect.getfile(e), e.__name__] for e in extractors],
        }
        within_s = _TIMES * timeout_s
        try:
            answer = BOX.ask(question, patience, within_s=within_s)
        except (TimeoutError, OutOfBounds) as e:
            _check(guard, url)
            if isinstance(e, OutOfBounds):
                raise NoStream(f"{url}: its page can't be read: {e}") from None
            raise SourceUnreachable(f"{url}: its page was not read within {within_s:g} s") from None
        _check(guard, url)
        status = answer.get("status")
        if guard.unreachable is not None and status == BAD_GATEWAY:
            raise SourceUnreachable(f"{url}: {guard.unreachable}")
    info = answer.get("info")
    if not isinstance(info, dict):
        raise _error(url, str(answer.get("error")), _text(answer.get("text")), status)
    return info


def _check(guard: Guard, url: str) -> None:
    """Raise what the proxy has seen: UnsafeURL, or NoStream for too much."""
    guard.check()
    if guard.is_spent:
        raise NoStream(f"{url}: its page can't be read: more than {MOST_BYTES >> 20} MB of it")


def _error(url: str, kind: str, said: str, status: object) -> CaptureError:
    if kind == "unsafe":
        return UnsafeURL(said)
    if kind == "not live":
        return NotLive(f"{url}: not on air now")
    if kind == "too much":
        return NoStream(f"{url}: its page takes more memory than it may")
    if kind == "unreachable":
        known = status if isinstance(status, int) and 100 <= status <= 999 else None
        return SourceUnreachable(f"{url}: {said}", status=known)
    return NoStream(f"{url}: {said}")


def _text(value: object) -> str:
    """Return what a site says, if it is a text, as one that may be shown."""
    return clean(str(value)[:_LONGEST_TEXT]) if isinstance(value, str | int | float) else ""


def _headers(found: object) -> tuple[tuple[str, str], ...]:
    """Return those headers that are some."""
    pairs = found.items() if isinstance(found, dict) else ()
    return tuple(
        (str(name), str(value))
        for name, value in list(pairs)[:_MOST_HEADERS]
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", str(name))
        and len(str(value)) <= _LONGEST_HEADER
        and re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", str(value))
    )


def _has_ended(
    stream: Stream, policy: AddressPolicy, timeout_s: float, stopping: threading.Event | None
) -> bool:
    sent = stream.sent
    with Fetcher(policy, headers=sent, timeout_s=timeout_s, stopping=stopping) as fetcher:
        return fetcher.get_playlist(stream.url).ended


def _from_timestamp(seconds: object) -> datetime | None:
    """Return the time that a site says, if that can be one."""
    if not isinstance(seconds, int | float) or not 0 < seconds < _LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _expiry(url: str) -> datetime | None:
    """Return when the address stops working: YouTube writes it into the path, others a query."""
    found = re.search(r"[?&/]expires?[=/](\d{10})(?!\d)", url, re.IGNORECASE)
    return _from_timestamp(int(found[1])) if found else None
