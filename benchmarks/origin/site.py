"""A site that announces shows, and the yt-dlp extractors that read it: for tests."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError, UserNotLive

from flows.demo.server import HttpServer, Reply

START = 1_795_370_400
"""Start of the shows of `KindIE`: 2026-11-22 18:00 UTC."""

Status = Literal["offline", "is_upcoming", "is_live", "post_live", "was_live"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Announced:
    """The page of a show.

    playlist: of the live stream, at any address. starts_at: aware; of a show to come.
    http_status: of the page.
    """

    status: Status = "offline"
    playlist: str = ""
    starts_at: datetime | None = None
    show_id: str = "show"
    http_status: int = 200


class ShowSite:
    """Serves one page, whose content changes with each request.

    pages: in order; the last one stays. on_look: called with the number of each request, from 0,
    before it is answered. Use as a context manager.
    """

    def __init__(
        self, *pages: Announced, on_look: Callable[[int], object] = lambda number: None
    ) -> None:
        """Store the arguments."""
        self._lock = threading.Lock()
        self._pages, self._on_look = list(pages or (Announced(),)), on_look
        self.looks = 0
        self._server = HttpServer(self._reply, host="127.0.0.1", port=0, log=lambda request: None)

    def __enter__(self) -> Self:
        """Serve."""
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.stop()

    @property
    def url(self) -> str:
        """The show's page."""
        return f"http://127.0.0.1:{self._server.port}/shows/live"

    def say(self, *pages: Announced) -> None:
        """Serve this page from now on."""
        with self._lock:
            self._pages = list(pages)

    def _reply(self, path: str) -> Reply:
        with self._lock:
            number, self.looks = self.looks, self.looks + 1
            page = self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]
        self._on_look(number)
        said = {
            "id": page.show_id,
            "status": page.status,
            "playlist": page.playlist,
            "starts_at": page.starts_at.timestamp() if page.starts_at else None,
        }
        body = json.dumps(said).encode()
        return Reply(status=page.http_status, content_type="application/json", body=body)


class ShowSiteIE(InfoExtractor):  # type: ignore[misc]
    """Reads a ShowSite."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/shows/(?P<id>\w+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        page = self._download_json(url, self._match_id(url))
        if page["status"] == "offline":
            raise UserNotLive(video_id=page["id"])
        live = page["status"] == "is_live"
        form = {"url": page["playlist"], "protocol": "m3u8_native", "ext": "mp4", "height": 180}
        return {
            "id": page["id"],
            "title": "A show",
            "live_status": page["status"],
            "release_timestamp": page["starts_at"],
            "formats": [form] if live else [],
        }


class KindIE(InfoExtractor):  # type: ignore[misc]
    """Extractor without requests: the last part of the address names the kind of show."""

    _VALID_URL = r"(?P<base>http://127\.0\.0\.1:\d+)/show/(?P<id>[\w-]+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        kind, base = self._match_id(url), self._match_valid_url(url)["base"]
        if kind == "offline":
            raise UserNotLive(video_id=kind)
        if kind == "forbidden":
            raise ExtractorError("This show is for members only", expected=True)
        addresses = {
            "live": [f"{base}/live.m3u8?expire={START}&v={height}" for height in (240, 720, 1080)],
            "inward": ["http://10.0.0.1/live.m3u8"],
            "file": ["file:///etc/passwd"],
        }.get(kind, [])
        return {
            "id": f"id-{kind}",
            "title": kind,
            "formats": [_form(url) for url in addresses],
            "live_status": "is_live" if addresses else kind,
            "release_timestamp": START if kind == "is_upcoming" else None,
        }


class SaidIE(InfoExtractor):  # type: ignore[misc]
    """Extractor that returns the JSON of a page."""

    _VALID_URL = r"http://127\.0\.0\.1:\d+/said/(?P<id>\w+)"

    def _real_extract(self, url: str) -> dict[str, Any]:
        said: dict[str, Any] = self._download_json(url, self._match_id(url))
        return said


def _form(url: str) -> dict[str, Any]:
    height = url.rpartition("=")[2]
    return {
        "url": url,
        "format_id": height,
        "protocol": "m3u8_native",
        "ext": "mp4",
        "height": int(height) if height.isdigit() else 720,
        "vcodec": "avc1.4d401f",
        "acodec": "mp4a.40.2",
    }
