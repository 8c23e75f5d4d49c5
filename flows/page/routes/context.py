"""What all routes share: database, recordings, templates, responses and error pages."""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape
from sqlalchemy import Connection

from db.tables.shows import EMOTIONS
from flows.page.media.playback import Playback, Recording
from flows.page.reading import show_queries
from flows.page.reading.database import Reader
from flows.page.reading.live_updates import Hub
from flows.page.reading.show_queries import ShowRow
from flows.page.routes.response_cache import ResponseCache
from flows.page.vendor import vendored
from flows.show import FIRST_YEAR, LAST_YEAR

HERE: Final = Path(__file__).resolve().parent.parent
GZIP_FROM_BYTES: Final = 500
VERSION: Final = version("showmood")


class NotThere(Exception):
    """The requested resource does not exist; the message says what to do.

    links: to what is there instead: what each is called, and its address.
    """

    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What the routes share.

    cache_dir: of the browser libraries. prefect_url: of the UI that runs link to; None: unknown.
    prefect_file: has the shows that are next.
    """

    reader: Reader
    playback: Playback
    hub: Hub
    cache: ResponseCache = field(default_factory=ResponseCache)
    cache_dir: Path | None = None
    ffmpeg: Path | None = None
    prefect_url: str | None = None
    prefect_file: Path | None = None

    @property
    def vendor(self) -> Path | None:
        """The folder of the browser libraries; None: they were not fetched yet."""
        return vendored(self.cache_dir)

    def show(self, connection: Connection, number: int) -> ShowRow:
        """Return a show; raises NotThere."""
        found = show_queries.show(connection, number) if 0 < number < 1 << 31 else None
        if found is None:
            raise NotThere(f"there is no show {number} in this history")
        return found

    def require_channel(self, channel: str, names: Sequence[str]) -> None:
        """Raise NotThere, with those there are, for a channel that has had no show."""
        if channel not in names:
            raise NotThere(
                f"there is no channel {channel[:80]!r} in this history; there are: "
                + (", ".join(names) or "none yet")
            )

    def recording(self, connection: Connection, show: ShowRow) -> Recording:
        """Return a show's recording; its rows are read again if they have changed."""
        state = show_queries.state(connection, show.broadcast_id)
        segments = partial(show_queries.rows, connection, "segments", id=show.broadcast_id)
        return self.playback.of(show, state, segments)


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True)
)
_templates.globals["EMOTIONS"] = EMOTIONS


def page(name: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page from its template."""
    text = _templates.get_template(name).render(**values)
    return HTMLResponse(text, status_code=status, headers={"cache-control": "no-cache"})


def error_page(
    status: int, title: str, why: str, links: Sequence[tuple[str, str]] = ()
) -> HTMLResponse:
    """Return a plain page that says what is wrong, and what to do."""
    return page("error.html", status=status, title=title, why=why, links=links)


def data(
    request: Request, body: object, *, closed: bool = False, kind: str = "application/json"
) -> Response:
    """Return data with an ETag: only a status if the browser has it already.

    closed: it is final, unless the show is analysed again.
    """
    content = (body if isinstance(body, str) else as_json(body)).encode()
    headers = _headers(content, closed)
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if len(content) > GZIP_FROM_BYTES and _takes_gzip(request):
        content = gzip.compress(content, 5, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=kind, headers=headers)


def remembered(
    request: Request,
    cache: ResponseCache,
    mark: object,
    make: Callable[[], object],
    *,
    closed: bool = False,
) -> Response:
    """Return data as `data` does, made only if its mark is new to the server.

    mark: a value that changes with the data. The ETag is its hash, so that only the mark is needed
    for a browser that has the data.
    """
    known = repr((VERSION, request.url.path, mark)).encode()
    headers = _headers(known, closed)
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    content = cache.of(headers["etag"], lambda: gzip.compress(as_json(make()).encode(), 5, mtime=0))
    if _takes_gzip(request):
        headers["content-encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, media_type="application/json", headers=headers)


def as_json(body: object) -> str:
    """Return JSON without spaces."""
    return json.dumps(body, separators=(",", ":"))


def _headers(known: bytes, closed: bool) -> dict[str, str]:
    return {
        "etag": f'"{hashlib.blake2b(known, digest_size=12).hexdigest()}"',
        "cache-control": f"private, {'max-age=300' if closed else 'no-cache'}",
        "vary": "accept-encoding",
    }


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def moment(text: str | None, name: str) -> datetime | None:
    """Return the aware UTC time of a query's value in ms since 1970; None without one."""
    if not text:
        return None
    try:
        at = datetime.fromtimestamp(int(text) / 1000, UTC)
        if not FIRST_YEAR <= at.year <= LAST_YEAR:
            raise OverflowError
    except (ValueError, OverflowError, OSError) as e:
        raise NotThere(f"{name}: a time in milliseconds since 1970, not {text[:40]!r}") from e
    return at


def ms(at: datetime) -> int:
    """Return a time in ms since 1970."""
    return round(at.timestamp() * 1000)


def zone_of(name: str | None) -> ZoneInfo:
    """Return a time zone by its name; UTC if the name is unknown."""
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, KeyError):
        return ZoneInfo("UTC")


def clock(at: datetime | None) -> str:
    """Return a time for an element `time`, which the browser writes in its own zone."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")


def length(seconds: float | None) -> str:
    """Return a length of time as people write it: 1 h 05 min."""
    whole = round(seconds or 0)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


_templates.filters["clock"] = clock
_templates.filters["length"] = length
