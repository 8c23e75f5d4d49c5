"""Finds the stream behind a page with yt-dlp; runs only in a child of `sandbox`.

Users give only a URL: no yt-dlp option that runs, writes or sends something is set from outside.
"""

import importlib
import importlib.util
import sys
import time
from functools import partial
from http.cookiejar import CookieJar
from typing import Any, Final

import yt_dlp
from yt_dlp import globals as yt_dlp_globals
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import (
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
    UserNotLive,
)

from flows.capture.headers import SiteHeaders
from flows.capture.net.address import read_host
from flows.capture.net.cookies import read_cookies, write_cookies
from flows.capture.quality import Quality
from flows.capture.segment import UnsafeURL
from flows.capture.source.ytdlp.formats import choose
from flows.capture.source.ytdlp.playlists import Playlists
from flows.capture.source.ytdlp.refusals import failure_of, kind_of, line_of
from flows.capture.source.ytdlp.site_options import (
    find_js_runtimes,
    keep_from_others,
    load_plugins,
    options_of,
)

FIELDS: Final = (
    "url",
    "protocol",
    "live_status",
    "id",
    "title",
    "release_timestamp",
    "manifest_url",
    "extra_param_to_segment_url",
    "extra_param_to_key_url",
    "width",
    "height",
    "fps",
    "vcodec",
    "acodec",
)
"""The fields of a stream that are returned, besides its headers."""

MAX_BODY_BYTES: Final = 32 << 20
"""Limit of a decoded response."""

_MAX_MASTER_BYTES: Final = 512 << 10
_MAX_WARNINGS: Final = 20
_WAITED_FOR: Final = ("is_upcoming", "was_live", "post_live")


class _Log:
    """Receives yt-dlp's messages instead of stdout and stderr; keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        """Drop the message."""

    info = debug

    def warning(self, message: str) -> None:
        """Keep the message."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(line_of(message))

    error = warning


class _TooLong(ExtractorError):  # type: ignore[misc]
    """A response is longer than a page can be."""


class _BoundedYoutubeDL(yt_dlp.YoutubeDL):  # type: ignore[misc]
    """yt-dlp restricted to http and https through our proxy, with bounded responses.

    A playlist is fetched once: yt-dlp would fetch it three times within a second.
    """

    def __init__(self, options: dict[str, Any], site_headers: tuple[SiteHeaders, ...] = ()) -> None:
        self._responses: list[Any] = []
        self._site_headers = site_headers
        self.playlists = Playlists()
        super().__init__(options)

    def urlopen(self, req: Any) -> Any:  # noqa: ANN401
        url = req if isinstance(req, str) else req.url
        if known := self.playlists.cached(req):
            return known
        read_host(url)
        for each in self._site_headers:
            if each.goes_to(url):
                req = Request(req) if isinstance(req, str) else req
                req.headers.update(dict(each.pairs))
        requested_at = time.monotonic()
        try:
            response = super().urlopen(req)
        except HTTPError as e:
            self._responses.append(e.response)
            raise
        self._responses.append(response)
        read = response.read

        def read_bounded(amt: int | None = None) -> bytes:
            data: bytes = read(MAX_BODY_BYTES + 1 if amt is None else amt)
            if len(data) > MAX_BODY_BYTES:
                raise _TooLong(f"a response of more than {MAX_BODY_BYTES >> 20} MB", expected=True)
            return data

        response.read = read_bounded
        return self.playlists.keep(req, response, requested_at=requested_at)

    def close(self) -> None:
        """Close also the responses that extractors left open."""
        for response in self._responses:
            response.close()
        super().close()


def prepare() -> None:
    """Load what every request needs, and compile each extractor's URL pattern."""
    # Without plugins from the machine's Python path: they are code.
    yt_dlp_globals.plugin_dirs.value = []
    with _BoundedYoutubeDL({"quiet": True, "cachedir": False}) as ydl:
        for extractor in yt_dlp.extractor.gen_extractor_classes():
            extractor.suitable("https://stream.test/")
        ydl.get_info_extractor("Generic")
        _ = ydl._request_director


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return {"info": ...} or {"error": a kind, "text": ..., "status": HTTP's}.

    Both also have "warnings", lines for the log, and "cookies", the current ones.
    question: url; proxy; timeout_s, of each request; extractors, tried before yt-dlp's own, as
    [module, file, name]; quality, [height_px, fps]; and the operator's settings for the site:
    cookies, user_agent, headers, netrc, extractor_arguments, plugins, impersonate.
    """
    log, jar = _Log(), CookieJar()
    warnings = load_plugins(question.get("plugins") or [])
    try:
        answered = _answer(question, log, jar)
    except (Exception, MemoryError) as e:  # noqa: BLE001 - extractors may raise anything
        answered = _error("no stream", f"its page can't be read ({type(e).__name__})")
    return answered | {"warnings": warnings, "cookies": write_cookies(jar)}


def _answer(question: dict[str, Any], log: _Log, jar: CookieJar) -> dict[str, Any]:
    quality = Quality(height_px=question["quality"][0], fps=question["quality"][1])
    options = {
        "format": partial(choose, quality=quality),
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": log,
        "skip_download": True,
        "noplaylist": True,
        "playlist_items": "1",
        "ignore_no_formats_error": True,
        "cachedir": False,
        "socket_timeout": question["timeout_s"],
        "retries": 1,
        "extractor_retries": 1,
        "js_runtimes": find_js_runtimes(),
        "proxy": question["proxy"],
        **options_of(question),
    }
    try:
        info, playlists = _extract(question, options, jar)
    except DownloadError as e:
        return _explain(e, question["timeout_s"])
    except (ExtractorError, RequestError, OSError) as e:
        return _error("unreachable", failure_of(e, question["timeout_s"]))
    except (UnsafeURL, MemoryError) as e:
        return _explain(e, question["timeout_s"])
    for _ in range(10):
        if not info or "entries" not in info:
            break
        info = next((entry for entry in info["entries"] if entry), None)
    if not info:
        return _error("no stream", "no video on this page")
    if not info.get("url") and info.get("live_status") not in _WAITED_FOR:
        if info.get("_has_drm"):
            return _error("drm", ", ".join(playlists.drm))
        for line in reversed(log.warnings):
            if kind := kind_of(line):
                return _error(kind, line)
        if info.get("formats"):
            return _error("sound only", "no picture in this stream, only sound")
    if why := playlists.no_video_at(info.get("url")):
        return _error("no stream", why)
    headers = {str(k): str(v) for k, v in (info.get("http_headers") or {}).items()}
    more = {
        "headers": headers,
        "playlist": playlists.get(info.get("url")),
        "master": playlists.get(info.get("manifest_url"), most_bytes=_MAX_MASTER_BYTES),
        "endless": str(info.get("url")) in playlists.endless,
    }
    return {"info": {name: _plain(info.get(name)) for name in FIELDS} | more}


def _extract(
    question: dict[str, Any], options: dict[str, Any], jar: CookieJar
) -> tuple[dict[str, Any] | None, Playlists]:
    extractors = [_load(*each) for each in question["extractors"]]
    site_headers = tuple(
        SiteHeaders(
            site=site,
            pairs=tuple((name, value) for name, value in pairs),
            only_https=only_https,
        )
        for site, pairs, only_https in question.get("headers") or []
    )
    if site_headers:
        keep_from_others(site_headers)
    with _BoundedYoutubeDL(options, site_headers) as ydl:
        for each in read_cookies(question.get("cookies") or ""):
            ydl.cookiejar.set_cookie(each)
        for extractor in reversed(extractors):
            instance = extractor()
            ydl.add_info_extractor(instance)
            # yt-dlp takes the first suitable extractor: move ours to the front.
            ydl._ies = {instance.ie_key(): instance, **ydl._ies}
        try:
            info: dict[str, Any] | None = ydl.extract_info(question["url"], download=False)
        finally:
            for each in ydl.cookiejar:
                jar.set_cookie(each)
        return info, ydl.playlists


def _load(module: str, file: str, name: str) -> type:
    """Return a class by its module, or by its file where the module can't be imported."""
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise
        loaded = sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    found: type = getattr(loaded, name)
    return found


def _explain(error: BaseException, timeout_s: float) -> dict[str, Any]:
    """Classify a yt-dlp error, where possible by its type."""
    cause: BaseException | None = error
    if isinstance(error, DownloadError):
        cause = error.exc_info[1] if error.exc_info else None
    chain: list[BaseException] = []
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    for e in chain:
        if isinstance(e, UnsafeURL):
            return _error("unsafe", str(e))
        if isinstance(e, MemoryError):
            return _error("too much", "")
        if isinstance(e, UserNotLive):
            return _error("not live", "")
        if isinstance(e, GeoRestrictedError):
            return _error("geo block", line_of(e))
        if isinstance(e, UnsupportedError):
            text = "no video on this page; give the page or playlist of a live one"
            return _error("no stream", text)
        if isinstance(e, HTTPError):
            retry_after = str(e.response.headers.get("Retry-After", ""))[:100]
            circles = ": it redirects in circles" if 300 <= e.status < 400 else ""
            known = _error("unreachable", f"HTTP status {e.status}{circles}", status=e.status)
            return {**known, "retry_after": retry_after}
        if isinstance(e, RequestError):
            return _error("unreachable", failure_of(e, timeout_s))
    text = line_of(chain[0] if chain else error)
    return _error(kind_of(text) or "no stream", text)


def _error(kind: str, text: str, *, status: int | None = None) -> dict[str, Any]:
    return {"error": kind, "text": text, "status": status}


def _plain(value: object) -> str | int | float | None:
    return value if isinstance(value, str | int | float) or value is None else str(value)
