"""Playlists that yt-dlp has asked for while it finds a stream: each is asked for once."""

import io
import json
import time
from collections.abc import Callable
from typing import Any, Final

from yt_dlp.networking.common import Request, Response

_BEGIN: Final = b"#EXTM3U"
_MOST_HANDED_ON_BYTES: Final = 16 << 20
"""As JSON. A longer playlist is fetched again by the engine, since an answer is bounded."""


class Playlists:
    """Keeps what came, and gives it again for as long as one question takes."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._kept: dict[str, tuple[Any, bytes, float]] = {}

    def again(self, request: Any) -> Any | None:  # noqa: ANN401 - yt-dlp has no types
        """Return what was answered to such a request; None if it is to be sent."""
        found = self._kept.get(_url_of(request))
        if found is None:
            return None
        answered, body, _ = found
        return Response(io.BytesIO(body), answered.url, answered.headers, answered.status)

    def keep(self, request: Any, response: Any, *, asked_at: float) -> Any:  # noqa: ANN401
        """Keep an answer if it is a playlist, and return what gives all of it."""
        url = _url_of(request)
        if not url or response.status != 200:
            return response
        read: Callable[..., bytes] = response.read
        begin = read(len(_BEGIN))
        if begin == _BEGIN:
            self._kept[url] = response, begin + read(), asked_at
            return self.again(request)
        is_all = len(begin) < len(_BEGIN)

        def read_on(amt: int | None = None) -> bytes:
            nonlocal begin
            first, begin = begin[:amt], b"" if amt is None else begin[amt:]
            left = None if amt is None else amt - len(first)
            return first if is_all or left == 0 else first + read(left)

        response.read = read_on
        return response

    def get(self, url: object, *, most_bytes: int = _MOST_HANDED_ON_BYTES) -> dict[str, Any] | None:
        """Return a playlist as JSON can carry it; None if it did not come, or is too long."""
        answered, body, asked_at = self._kept.get(_url_of(url), (None, b"", 0.0))
        text = body.decode(errors="replace")
        if answered is None or len(json.dumps(text)) > most_bytes:
            return None
        return {
            "found_at": answered.url,
            "text": text,
            "age_s": time.monotonic() - asked_at,
        }


def _url_of(request: Any) -> str:  # noqa: ANN401
    """Return the address of a request that asks for a file; empty for any other."""
    if isinstance(request, str):
        request = Request(request)
    plain = isinstance(request, Request) and request.method == "GET" and request.data is None
    return str(request.url) if plain else ""
