"""A page's URL to the stream behind it, with yt-dlp.

Users give a URL and nothing else: no option of yt-dlp that runs, writes or sends something is ever
set from outside.
"""

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

import deno  # type: ignore[import-untyped]
import yt_dlp
from yt_dlp import globals as yt_dlp_globals
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import DownloadError, ExtractorError, UnsupportedError, UserNotLive

from flows.capture.address import STREAM_SCHEMES, AddressPolicy, read_host
from flows.capture.fetch import Fetcher
from flows.capture.guard import Guard
from flows.capture.headers import Headers
from flows.capture.relay import BAD_GATEWAY
from flows.capture.segment import CaptureError, NoStream, NotLive, SourceUnreachable
from flows.capture.shown import clean
from flows.capture.stopping import Patience

_log = logging.getLogger(__name__)

# One stream with picture and sound, HLS first, no larger than faces need. The last ones are for
# sites that give no height, no HLS, or picture and sound apart.
FORMATS: Final = "/".join(
    (
        "best[height<=720][vcodec^=avc1][protocol^=m3u8]",
        "best[height<=720][protocol^=m3u8]",
        "worst[protocol^=m3u8]",
        "bestvideo[height<=720][protocol^=m3u8]",
        "best[height<=720]",
        "best",
        "bestvideo",
    )
)

_FILES: Final = ("http", "https")
_ENDED: Final = ("was_live", "post_live")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """What can be recorded, and what is known about it.

    page_url: as the user gave it. url: the media playlist, or another address ffmpeg reads.
    protocol: "http" is one file without end.
    live: None where the source does not say. live_status: yt-dlp's word. source_id: the
    broadcast's id at the source; another id is another broadcast. expires_at, starts_at: aware
    UTC. headers: to be sent to where `url` is (`flows.capture.headers`).
    """

    page_url: str
    url: str
    protocol: Literal["hls", "http", "other"]
    live: bool | None
    live_status: str | None
    source_id: str
    title: str
    expires_at: datetime | None = None
    starts_at: datetime | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def sent(self) -> Headers:
        """Which of the headers go where."""
        return Headers(self.headers, made_for=self.url)


class _Silent:
    """Takes yt-dlp's messages, which would go to stdout and stderr."""

    def debug(self, message: str) -> None:
        _log.debug("%s", clean(message))

    info = warning = error = debug


class _GuardedYoutubeDL(yt_dlp.YoutubeDL):  # type: ignore[misc]
    """yt-dlp that asks the policy before each request, with the reason; Guard sees to the rest."""

    def __init__(self, policy: AddressPolicy, options: dict[str, Any]) -> None:
        self._policy = policy
        self._responses: list[Any] = []
        super().__init__(options)

    def urlopen(self, req: Any) -> Any:  # noqa: ANN401
        self._policy.check(req if isinstance(req, str) else req.url)
        try:
            response = super().urlopen(req)
        except HTTPError as e:
            self._responses.append(e.response)
            raise
        self._responses.append(response)
        return response

    def close(self) -> None:
        """Close what extractors left open, too."""
        for response in self._responses:
            response.close()
        super().close()


def resolve(
    url: str,
    *,
    policy: AddressPolicy,
    timeout_s: float = 15.0,
    extractors: Sequence[type] = (),
    stopping: threading.Event | None = None,
) -> Stream:
    """Find the live stream behind a URL.

    timeout_s: for each request. extractors: yt-dlp extractors to try before its own. stopping:
    once this is set, by any thread, it raises Stopped at once.
    Raises UnsafeURL before anything is fetched, or for the stream's own address; NoStream;
    NotLive, with `starts_at` for a show that is announced; SourceUnreachable.
    """
    patience = Patience(stopping)
    patience.run(partial(policy.check, url), name="capture-name")
    info = _extract(url, policy, timeout_s, extractors, patience)
    status = info.get("live_status")
    starts_at = _from_timestamp(info.get("release_timestamp"))
    if status == "is_upcoming":
        when = f"; it is announced for {starts_at:%Y-%m-%d %H:%M} UTC" if starts_at else ""
        raise NotLive(f"{url}: the show has not begun{when}", starts_at=starts_at)
    if status in _ENDED:
        raise NotLive(f"{url}: the show has ended; give a recording of it to `analyze`", final=True)
    stream_url = info.get("url")
    if not stream_url:
        raise NoStream(f"{url}: no stream to watch here; give the page or playlist of a live video")
    patience.run(partial(policy.check, stream_url, schemes=STREAM_SCHEMES), name="capture-name")
    protocol = str(info.get("protocol") or "")
    hls = protocol.startswith("m3u8")
    stream = Stream(
        page_url=url,
        url=stream_url,
        protocol="hls" if hls else "http" if protocol in _FILES else "other",
        live={"is_live": True, "not_live": False}.get(status or ""),
        live_status=status,
        # yt-dlp makes both of the address where the site says nothing.
        source_id=clean(str(info.get("id") or "")),
        # yt-dlp adds the minute to a live video's title.
        title=clean(re.sub(r" \d{4}-\d\d-\d\d \d\d:\d\d$", "", str(info.get("title") or ""))),
        expires_at=_expiry(stream_url),
        starts_at=starts_at,
        headers=tuple((str(k), str(v)) for k, v in (info.get("http_headers") or {}).items()),
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
    # Plugins are code from wherever the machine's Python path leads.
    yt_dlp_globals.plugin_dirs.value = []
    options = {
        "format": FORMATS,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Silent(),
        "skip_download": True,
        "noplaylist": True,
        "playlist_items": "1",
        "ignore_no_formats_error": True,
        "cachedir": False,
        "socket_timeout": timeout_s,
        "retries": 1,
        "extractor_retries": 1,
        "js_runtimes": {"deno": {"path": deno.find_deno_bin()}},
    }
    port = read_host(url)[1]
    with Guard(policy, ports=[port] if port else []) as guard:
        try:
            # Aside: yt-dlp can't be told to stop. Without its proxy it soon ends by itself.
            info = patience.run(
                partial(_ask, url, policy, options | {"proxy": guard.url}, extractors),
                name="capture-resolve",
            )
        except CaptureError as e:
            guard.check()
            if guard.unreachable is not None and getattr(e, "status", None) == BAD_GATEWAY:
                raise SourceUnreachable(f"{url}: {guard.unreachable}") from e
            raise
        guard.check()
    while info and "entries" in info:
        info = next((entry for entry in info["entries"] if entry), None)
    if not info:
        raise NoStream(f"{url}: no video on this page")
    return dict(info)


def _ask(
    url: str, policy: AddressPolicy, options: dict[str, Any], extractors: Sequence[type]
) -> dict[str, Any] | None:
    try:
        with _GuardedYoutubeDL(policy, options) as ydl:
            for extractor in reversed(extractors):
                instance = extractor()
                ydl.add_info_extractor(instance)
                # The newest goes last, and the first that suits is taken: ours go to the front.
                ydl._ies = {instance.ie_key(): instance, **ydl._ies}
            info: dict[str, Any] | None = ydl.extract_info(url, download=False)
    except DownloadError as e:
        # Not from e: a traceback would print its text, which holds the whole URL.
        raise _explain(url, e) from None
    except (ExtractorError, RequestError, OSError) as e:
        raise SourceUnreachable(f"{url}: {_line(e)}") from None
    return info


def _explain(url: str, error: DownloadError) -> CaptureError:
    """Return our error for yt-dlp's, by its kind and not by its text."""
    cause: BaseException | None = error.exc_info[1] if error.exc_info else None
    chain: list[BaseException] = []
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    for e in chain:
        if isinstance(e, CaptureError):
            return e
        if isinstance(e, UserNotLive):
            return NotLive(f"{url}: not on air now")
        if isinstance(e, UnsupportedError):
            return NoStream(
                f"{url}: no video on this page; give the page or playlist of a live one"
            )
        if isinstance(e, HTTPError):
            return SourceUnreachable(f"{url}: HTTP status {e.status}", status=e.status)
        if isinstance(e, RequestError):
            return SourceUnreachable(f"{url}: {_line(e)}")
    return NoStream(f"{url}: {_line(chain[0] if chain else error)}")


def _line(error: BaseException) -> str:
    """Return an error's text as one line, without yt-dlp's advice on its own options."""
    text = str(getattr(error, "orig_msg", None) or error)
    return re.split(r"[;.]? *(?:please report|Use --|See +https)", " ".join(text.split()))[0][:300]


def _has_ended(
    stream: Stream, policy: AddressPolicy, timeout_s: float, stopping: threading.Event | None
) -> bool:
    sent = stream.sent
    with Fetcher(policy, headers=sent, timeout_s=timeout_s, stopping=stopping) as fetcher:
        return fetcher.get_playlist(stream.url).ended


def _from_timestamp(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _expiry(url: str) -> datetime | None:
    """Return when the address stops working: YouTube writes it into the path, others a query."""
    found = re.search(r"[?&/]expires?[=/](\d{10})(?!\d)", url, re.IGNORECASE)
    return _from_timestamp(int(found[1])) if found else None
