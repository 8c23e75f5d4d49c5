"""A site that announces shows, and the yt-dlp extractor that reads it: for tests of waiting."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import UserNotLive

from flows.demo.server import Reply, Server

Status = Literal["offline", "is_upcoming", "is_live", "post_live", "was_live"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Announced:
    """What the page of a show says.

    playlist: of the live stream, at any address. starts_at: aware; of a show to come.
    http_status: of the page.
    """

    status: Status = "offline"
    playlist: str = ""
    starts_at: datetime | None = None
    show_id: str = "show"
    http_status: int = 200


class ShowSite:
    """Serves one page, which says one thing after another, each time that it is looked at.

    pages: the last stays. on_look: called with the number of each look, from 0, before it is
    answered. Use as a context manager.
    """

    def __init__(
        self, *pages: Announced, on_look: Callable[[int], object] = lambda number: None
    ) -> None:
        """Remember; nothing is served yet."""
        self._lock = threading.Lock()
        self._pages, self._on_look = list(pages or (Announced(),)), on_look
        self.looks = 0
        self._server = Server(self._reply, host="127.0.0.1", port=0, log=lambda request: None)

    def __enter__(self) -> Self:
        """Serve."""
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Stop."""
        self._server.stop()

    @property
    def url(self) -> str:
        """The show's page."""
        return f"http://127.0.0.1:{self._server.port}/shows/live"

    def say(self, *pages: Announced) -> None:
        """Say this from now on."""
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
