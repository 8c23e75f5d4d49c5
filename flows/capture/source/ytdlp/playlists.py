"""Caches the playlists that yt-dlp fetches while it finds a stream: each is fetched once.

Notes the videos without a length, too.
"""

import io
import json
import re
import time
from collections.abc import Callable
from typing import Any, Final

from yt_dlp.networking.common import Request, Response

from flows.capture.playlists.drm import names_in

_BEGIN: Final = b"#EXTM3U"
_XML: Final = (b"<?xml", b"<MPD")
_ANY_KIND: Final = ("", "application/octet-stream", "binary/octet-stream")
_OTHERS: Final = re.compile(r"(text|image|multipart|font)/|application/(json|pdf|zip|javascript)$")
"""Types of responses that are no video, and not taken for one by their servers' mistake."""

_OF_FILES: Final = ("Content-Length", "Content-Range", "Last-Modified", "ETag")
"""Headers that a server sends with a file, and not with a live stream."""

_MAX_JSON_BYTES: Final = 16 << 20
"""A longer playlist is not returned, and fetched again by the engine."""


class Playlists:
    """The playlists fetched during one extraction, by URL."""

    def __init__(self) -> None:
        """Begin empty."""
        self._kept: dict[str, tuple[Any, bytes, float]] = {}
        self.endless: set[str] = set()
        """URLs of videos without a length, as servers send live ones."""
        self._others: dict[str, str] = {}
        self.drm: dict[str, None] = {}
        """Names of the DRM systems in playlists and manifests."""

    def cached(self, request: Any) -> Any | None:  # noqa: ANN401 - yt-dlp has no types
        """Return the cached response to a request; None if there is none."""
        found = self._kept.get(_url_of(request))
        if found is None:
            return None
        answered, body, _ = found
        return Response(io.BytesIO(body), answered.url, answered.headers, answered.status)

    def keep(self, request: Any, response: Any, *, requested_at: float) -> Any:  # noqa: ANN401
        """Cache a response if it is a playlist; return a response that yields all of it."""
        url = _url_of(request)
        if not url or response.status != 200:
            return response
        kind = _kind_of(response)
        if _OTHERS.match(kind):
            self._others[url] = kind
        elif _is_endless(response, kind):
            self.endless.add(url)
        read: Callable[..., bytes] = response.read
        begin = read(len(_BEGIN))
        if begin == _BEGIN or begin.lstrip(b"\xef\xbb\xbf \r\n").startswith(_XML):
            body = begin + read()
            self.drm |= dict.fromkeys(names_in(body.decode(errors="replace")))
            if begin == _BEGIN:
                self._kept[url] = response, body, requested_at
            return Response(io.BytesIO(body), response.url, response.headers, response.status)
        is_all = len(begin) < len(_BEGIN)

        def read_on(amt: int | None = None) -> bytes:
            nonlocal begin
            first, begin = begin[:amt], b"" if amt is None else begin[amt:]
            left = None if amt is None else amt - len(first)
            return first if is_all or left == 0 else first + read(left)

        response.read = read_on
        return response

    def no_video_at(self, url: object) -> str:
        """Return why a file that yt-dlp takes for a video is none; empty if it may be one."""
        kind = self._others.get(_url_of(url))
        if kind is None or _url_of(url) in self._kept:
            return ""
        return f"no video, but {kind}; give the page or playlist of a live one"

    def get(self, url: object, *, most_bytes: int = _MAX_JSON_BYTES) -> dict[str, Any] | None:
        """Return a playlist for JSON; None if it is not cached, or longer than most_bytes."""
        answered, body, requested_at = self._kept.get(_url_of(url), (None, b"", 0.0))
        text = body.decode(errors="replace")
        if answered is None or len(json.dumps(text)) > most_bytes:
            return None
        return {
            "found_at": answered.url,
            "text": text,
            "age_s": time.monotonic() - requested_at,
        }


def _kind_of(response: Any) -> str:  # noqa: ANN401
    return str(response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()[:60]


def _is_endless(response: Any, kind: str) -> bool:  # noqa: ANN401
    """Return whether a response looks live: a video with neither length nor date nor ranges."""
    is_video = kind.startswith("video/") or kind in _ANY_KIND
    return is_video and not any(response.headers.get(name) for name in _OF_FILES)


def _url_of(request: Any) -> str:  # noqa: ANN401
    """Return the URL of a plain GET request; empty for any other."""
    if isinstance(request, str):
        request = Request(request)
    plain = isinstance(request, Request) and request.method == "GET" and request.data is None
    return str(request.url) if plain else ""
