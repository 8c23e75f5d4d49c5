"""Resolves a page's URL to the stream behind it, by yt-dlp in a sandbox (`ytdlp.extraction`).

Its result is treated as untrusted, like a site's content.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from flows.capture.hls.feed import Feed
from flows.capture.net.address import STREAM_SCHEMES, AddressPolicy
from flows.capture.net.for_stream import fetcher_for
from flows.capture.quality import Quality
from flows.capture.segment import (
    NoStream,
    NotLive,
    NotWatchable,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source.by_itself import is_misread, playlist_at
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.cameras import camera_stream
from flows.capture.source.ytdlp.request import SANDBOX as SANDBOX
from flows.capture.source.ytdlp.request import ExtractionRequest, extract, text_of
from flows.capture.stream import Loaded, Stream
from flows.capture.waits import WaitLimit

_MAX_HEADERS: Final = 50
_MAX_HEADER_CHARS: Final = 8192
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""Later announcements and expiry times are ignored."""

_SMUGGLED: Final = "__youtubedl_smuggle"
"""Marks internal data that yt-dlp's extractors pass in a URL."""

_FILES: Final = ("http", "https")
_NO_CODEC: Final = ("", "none")
_QUERY: Final = re.compile(r"[\w.~!$'()*+,;=:@/?&%-]{1,4096}", re.ASCII)
_LIVE: Final = {"is_live": True, "not_live": False}
_ENDED: Final = ("was_live", "post_live")


def resolve(
    url: str,
    *,
    policy: AddressPolicy,
    access: Access | None = None,
    quality: Quality | None = None,
    timeout_s: float = 15.0,
    extractors: Sequence[type] = (),
    stopping: threading.Event | None = None,
) -> Stream:
    """Find the live stream behind a URL.

    access: the operator's settings for the site; its proxy is the policy's. quality: the upper
    bound. timeout_s: of each request; there may be several. extractors: of yt-dlp, tried before its
    own. stopping: once set, by any thread, Stopped is raised.
    Raises UnsafeURL before anything is fetched, or for the stream's URL; NoStream; NotLive, with
    `starts_at` for an announced show; SourceUnreachable.
    """
    if access is not None and access.camera:
        return camera_stream(url, access.camera)
    if _SMUGGLED in url:
        raise UnsafeURL(f"{url}: remove the part after the #: yt-dlp reads commands in it")
    wait_limit = WaitLimit(stopping)
    wait_limit.run(partial(policy.check, url), name="capture-name")
    access = access or Access()
    wanted = ExtractionRequest(
        url=url,
        policy=policy,
        access=access,
        quality=quality or Quality(),
        timeout_s=timeout_s,
        extractors=extractors,
    )
    look = partial(playlist_at, url, policy, access, timeout_s=timeout_s, stopping=stopping)
    check = partial(
        _require_live, policy=policy, quality=quality, timeout_s=timeout_s, stopping=stopping
    )
    try:
        info, cookies = extract(wanted, wait_limit)
    except NoStream as e:
        if isinstance(e, NotWatchable) or (found := look()) is None:
            raise
        return check(found)
    status = text_of(info.get("live_status"))
    starts_at = _from_timestamp(info.get("release_timestamp"))
    if status == "is_upcoming":
        when = f"; it is announced for {starts_at:%Y-%m-%d %H:%M} UTC" if starts_at else ""
        raise NotLive(f"{url}: the show has not begun{when}", starts_at=starts_at)
    if status in _ENDED:
        raise NotLive(f"{url}: the show has ended; give a recording of it to `analyze`", final=True)
    stream_url = info.get("url")
    if not stream_url or not isinstance(stream_url, str):
        if (found := look()) is not None:
            return check(found)
        raise NoStream(f"{url}: no stream here; give the page or playlist of a live video")
    master_url = str(info.get("manifest_url") or "")
    master = _loaded(info.get("master"), master_url, policy) if master_url else None
    if master is not None and is_misread(master):
        stream_url, info["protocol"], info["playlist"] = master_url, "m3u8", info.get("master")
    try:
        is_allowed = partial(policy.check, stream_url, schemes=STREAM_SCHEMES)
        wait_limit.run(is_allowed, name="capture-name")
    except SourceUnreachable:  # no such host: the master playlist may have another
        if master is None:
            raise
    protocol = text_of(info.get("protocol"))
    hls = protocol.startswith("m3u8")
    master_url = _master(info.get("manifest_url"), stream_url, policy) if hls else ""
    stream = Stream(
        page_url=url,
        url=stream_url,
        protocol="hls" if hls else "http" if protocol in _FILES else "other",
        live=True if info.get("endless") is True else _LIVE.get(status),
        live_status=status or None,
        # yt-dlp derives id and title from the URL where the site has none.
        source_id=text_of(info.get("id")),
        # yt-dlp appends date and time to a live video's title.
        title=re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d$", "", text_of(info.get("title"))),
        expires_at=_expiry(stream_url),
        starts_at=starts_at,
        headers=_headers(info.get("headers")),
        site_headers=access.headers,
        cookies=cookies,
        master_url=master_url,
        master=_loaded(info.get("master"), master_url, policy) if master_url else None,
        segment_query=_query(info.get("extra_param_to_segment_url")),
        key_query=_query(info.get("extra_param_to_key_url")),
        width_px=_number(info.get("width")),
        height_px=_number(info.get("height")),
        fps=float(_number(info.get("fps"))),
        codecs=", ".join(
            each
            for name in ("vcodec", "acodec")
            if (each := text_of(info.get(name))) not in _NO_CODEC
        ),
        loaded=_loaded(info.get("playlist"), stream_url, policy) if hls else None,
    )
    return check(stream)


def _require_live(
    stream: Stream,
    *,
    policy: AddressPolicy,
    quality: Quality | None,
    timeout_s: float,
    stopping: threading.Event | None,
) -> Stream:
    """Return the stream, with its playlist if that had to be read; raises NotLive."""
    ended = False
    if stream.protocol == "hls" and stream.live is None:
        with fetcher_for(stream, policy, timeout_s=timeout_s, stopping=stopping) as fetcher:
            feed = Feed(stream, fetcher, quality)
            ended = feed.load().ended
        stream = replace(stream, loaded=feed.loaded)
    # A plain file at an http URL that is not stated to be live is a recorded video.
    if stream.live is False or ended or (stream.live is None and stream.protocol == "http"):
        raise NotLive(
            f"{stream.page_url}: a recorded video or a show that has ended; not on air now",
            over=True,
        )
    return stream


def _headers(found: object) -> tuple[tuple[str, str], ...]:
    """Return the valid headers."""
    pairs = found.items() if isinstance(found, dict) else ()
    return tuple(
        (str(name), str(value))
        for name, value in list(pairs)[:_MAX_HEADERS]
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", str(name))
        and len(str(value)) <= _MAX_HEADER_CHARS
        and re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", str(value))
    )


def _loaded(found: object, stream_url: str, policy: AddressPolicy) -> Loaded | None:
    """Return the stream's playlist as yt-dlp fetched it; None where it did not."""
    if not isinstance(found, dict):
        return None
    found_at, text, age_s = (found.get(name) for name in ("found_at", "text", "age_s"))
    if not (isinstance(found_at, str) and isinstance(text, str) and isinstance(age_s, int | float)):
        return None
    try:
        policy.check_unresolved([found_at])
    except UnsafeURL:
        return None
    at = time.monotonic() - max(0.0, age_s)
    return Loaded(url=stream_url, found_at=found_at, text=text, at=at)


def _master(found: object, stream_url: str, policy: AddressPolicy) -> str:
    """Return the URL of the master playlist; empty where there is none, or it is not allowed."""
    if not isinstance(found, str) or found == stream_url:
        return ""
    try:
        policy.check_unresolved([found])
    except UnsafeURL:
        return ""
    return found


def _query(found: object) -> str:
    return found if isinstance(found, str) and _QUERY.fullmatch(found) else ""


def _number(found: object) -> int:
    return round(found) if isinstance(found, int | float) and 0 < found < 100_000 else 0


def _from_timestamp(seconds: object) -> datetime | None:
    """Return a site's timestamp as aware UTC; None if it is implausible."""
    if not isinstance(seconds, int | float) or not 0 < seconds < _LATEST.timestamp():
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _expiry(url: str) -> datetime | None:
    """Return the URL's expiry: YouTube has it in the path, others in the query."""
    found = re.search(r"[?&/]expires?[=/](\d{10})(?!\d)", url, re.IGNORECASE)
    return _from_timestamp(int(found[1])) if found else None
