"""yt-dlp, asked for the stream behind a page; runs in a child of `flows.capture.source.box` alone.

Users give a URL and nothing else: no option of yt-dlp that runs, writes or sends something is ever
set from outside.
"""

import importlib
import importlib.util
import re
import sys
from typing import Any, Final

import deno  # type: ignore[import-untyped]
import yt_dlp
from yt_dlp import globals as yt_dlp_globals
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import DownloadError, ExtractorError, UnsupportedError, UserNotLive

from flows.capture.net.address import read_host
from flows.capture.segment import UnsafeURL

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

FIELDS: Final = ("url", "protocol", "live_status", "id", "title", "release_timestamp")
"""What is told of a stream, besides its headers."""

MOST_BODY_BYTES: Final = 32 << 20
"""Of one answer, decoded."""

_LONGEST_TEXT: Final = 500


class _Silent:
    """Takes yt-dlp's messages, which would go to stdout and stderr."""

    def debug(self, message: str) -> None:
        """Forget it."""

    info = warning = error = debug


class _TooLong(ExtractorError):  # type: ignore[misc]
    """An answer that is longer than a page."""


class _BoundedYoutubeDL(yt_dlp.YoutubeDL):  # type: ignore[misc]
    """yt-dlp that asks for http and https alone, of our proxy, and reads no answer without end."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._responses: list[Any] = []
        super().__init__(options)

    def urlopen(self, req: Any) -> Any:  # noqa: ANN401
        read_host(req if isinstance(req, str) else req.url)
        try:
            response = super().urlopen(req)
        except HTTPError as e:
            self._responses.append(e.response)
            raise
        self._responses.append(response)
        read = response.read

        def read_bounded(amt: int | None = None) -> bytes:
            data: bytes = read(MOST_BODY_BYTES + 1 if amt is None else amt)
            if len(data) > MOST_BODY_BYTES:
                raise _TooLong(f"an answer of more than {MOST_BODY_BYTES >> 20} MB", expected=True)
            return data

        response.read = read_bounded
        return response

    def close(self) -> None:
        """Close what extractors left open, too."""
        for response in self._responses:
            response.close()
        super().close()


def prepare() -> None:
    """Load what each question needs, and have each extractor make ready to tell its URLs."""
    with _BoundedYoutubeDL({"quiet": True, "cachedir": False}) as ydl:
        for extractor in yt_dlp.extractor.gen_extractor_classes():
            extractor.suitable("https://stream.test/")
        ydl.get_info_extractor("Generic")
        ydl.build_format_selector(FORMATS)
        _ = ydl._request_director


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return {"info": ...} or {"error": a kind, "text": ..., "status": of HTTP}.

    question: url; proxy; timeout_s, for each request; extractors, to be tried before yt-dlp's own,
    as [module, file, name].
    """
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
        "socket_timeout": question["timeout_s"],
        "retries": 1,
        "extractor_retries": 1,
        "js_runtimes": {"deno": {"path": deno.find_deno_bin()}},
        "proxy": question["proxy"],
    }
    try:
        info = _extract(question["url"], options, [_load(*each) for each in question["extractors"]])
    except DownloadError as e:
        return _explain(e)
    except (ExtractorError, RequestError, OSError) as e:
        return _error("unreachable", _line(e))
    except (UnsafeURL, MemoryError) as e:
        return _explain(e)
    except Exception as e:  # noqa: BLE001 - a site that breaks an extractor has no stream for us
        return _error("no stream", f"its page can't be read ({type(e).__name__})")
    for _ in range(10):
        if not info or "entries" not in info:
            break
        info = next((entry for entry in info["entries"] if entry), None)
    if not info:
        return _error("no stream", "no video on this page")
    headers = {str(k): str(v) for k, v in (info.get("http_headers") or {}).items()}
    return {"info": {name: _plain(info.get(name)) for name in FIELDS} | {"headers": headers}}


def _extract(url: str, options: dict[str, Any], extractors: list[type]) -> dict[str, Any] | None:
    with _BoundedYoutubeDL(options) as ydl:
        for extractor in reversed(extractors):
            instance = extractor()
            ydl.add_info_extractor(instance)
            # The newest goes last, and the first that suits is taken: ours go to the front.
            ydl._ies = {instance.ie_key(): instance, **ydl._ies}
        info: dict[str, Any] | None = ydl.extract_info(url, download=False)
    return info


def _load(module: str, file: str, name: str) -> type:
    """Return a class by the name of its module, or by its file, where no path leads to that."""
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


def _explain(error: BaseException) -> dict[str, Any]:
    """Return what yt-dlp's error means, by its kind and not by its text."""
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
        if isinstance(e, UnsupportedError):
            said = "no video on this page; give the page or playlist of a live one"
            return _error("no stream", said)
        if isinstance(e, HTTPError):
            return _error("unreachable", f"HTTP status {e.status}", status=e.status)
        if isinstance(e, RequestError):
            return _error("unreachable", _line(e))
    return _error("no stream", _line(chain[0] if chain else error))


def _error(kind: str, text: str, *, status: int | None = None) -> dict[str, Any]:
    return {"error": kind, "text": text, "status": status}


def _line(error: BaseException) -> str:
    """Return an error's text as one line, without yt-dlp's advice on its own options."""
    text = str(getattr(error, "orig_msg", None) or error)[: 4 * _LONGEST_TEXT]
    text = re.split(r"[;.]? *(?:please report|Use --|See +https)", " ".join(text.split()))[0]
    return text[:_LONGEST_TEXT]


def _plain(value: object) -> str | int | float | None:
    return value if isinstance(value, str | int | float) or value is None else str(value)
