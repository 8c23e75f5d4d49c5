"""Runs yt-dlp on a page, in its sandbox and through our proxy, and reads its result."""

import inspect
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flows.capture.net.address import AddressPolicy, read_host
from flows.capture.net.cookies import read_cookies
from flows.capture.net.retry_after import parse_retry_after
from flows.capture.proxy.guard import Guard
from flows.capture.proxy.relay import BAD_GATEWAY
from flows.capture.quality import Quality
from flows.capture.redaction import clean
from flows.capture.segment import (
    CaptureError,
    NoStream,
    NotLive,
    NotWatchable,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source.operator.access import Access
from flows.capture.source.operator.cookies_file import update_cookies
from flows.capture.source.ytdlp.refusals import REFUSALS, advice, refusal
from flows.capture.source.ytdlp.sandbox import LimitExceeded, Sandbox
from flows.capture.waits import WaitLimit

_log = logging.getLogger(__name__)

MAX_BYTES: Final = 64 << 20
"""Limit of all that is fetched to find a stream."""

SANDBOX: Final = Sandbox("flows.capture.source.ytdlp.extraction")

_TIMEOUT_FACTOR: Final = 4
"""Time limit for finding a stream, in multiples of one request's timeout."""

_MAX_TEXT_CHARS: Final = 500
_PROXY_WANTS_USER: Final = 407
_REFUSED: Final = (401, 403, 451)
_MIN_SECRET_CHARS: Final = 12
"""Shorter values are not hidden: names of clients, words such as webpage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractionRequest:
    """What to find, and how."""

    url: str
    policy: AddressPolicy
    access: Access
    quality: Quality
    timeout_s: float
    extractors: Sequence[type]

    def as_sent(self, proxy: str) -> dict[str, Any]:
        """Return the question for `extraction.answer`; sent over a socket, as it has secrets."""
        access = self.access
        return {
            "url": self.url,
            "proxy": proxy,
            "timeout_s": self.timeout_s,
            "extractors": [[e.__module__, inspect.getfile(e), e.__name__] for e in self.extractors],
            "quality": [self.quality.height_px, self.quality.fps],
            "cookies": access.cookies,
            "user_agent": access.user_agent,
            "headers": [[each.site, each.pairs, each.only_https] for each in access.headers],
            "netrc": str(access.netrc) if access.netrc else "",
            "extractor_arguments": {
                name: {key: list(values) for key, values in named.items()}
                for name, named in access.extractor_arguments.items()
            },
            "plugins": [str(each) for each in access.plugins],
            "impersonate": access.impersonate,
        }


def extract(wanted: ExtractionRequest, wait_limit: WaitLimit) -> tuple[dict[str, Any], str]:
    """Return the stream's fields as yt-dlp found them, and the current cookies."""
    url, policy = wanted.url, wanted.policy
    port = read_host(url)[1]
    with Guard(policy, ports=[port] if port else [], most_bytes=MAX_BYTES) as guard:
        within_s = _TIMEOUT_FACTOR * wanted.timeout_s
        try:
            answer = SANDBOX.run(wanted.as_sent(guard.url), wait_limit, within_s=within_s)
        except (TimeoutError, LimitExceeded) as e:
            _check(guard, url)
            by_plugin = " (plugins of sources.toml run in it)" if wanted.access.plugins else ""
            if isinstance(e, LimitExceeded):
                raise NoStream(f"{url}: its page can't be read: {e}{by_plugin}") from None
            raise SourceUnreachable(
                f"{url}: its page was not read within {within_s:g} s{by_plugin}"
            ) from None
        _check(guard, url)
        for warning in answer.get("warnings") or []:
            line = without_secrets(str(warning), wanted.access)
            _log.warning("a plugin of sources.toml can't be used: %s", text_of(line))
        status = answer.get("status")
        is_ours = status == BAD_GATEWAY or (status is None and policy.upstream is not None)
        if guard.unreachable is not None and "error" in answer and is_ours:
            raise SourceUnreachable(f"{url}: {guard.unreachable}")
    cookies = _cookies(answer.get("cookies"), wanted.access)
    info = answer.get("info")
    if not isinstance(info, dict):
        text = text_of(without_secrets(str(answer.get("text") or ""), wanted.access))
        if status == _PROXY_WANTS_USER and policy.upstream is not None:
            raise policy.upstream.refused(_PROXY_WANTS_USER)
        retry_s = parse_retry_after(text_of(answer.get("retry_after")))
        raise _error(wanted, str(answer.get("error")), text, status, retry_s)
    return info, cookies


def _cookies(answered: object, access: Access) -> str:
    """Return the new cookies, and update the operator's cookies file."""
    try:
        text = answered if isinstance(answered, str) else ""
        read_cookies(text)
    except ValueError:
        return access.cookies
    if access.cookies_file is not None:
        update_cookies(access.cookies_file, before=access.cookies, after=text)
    return text


def _check(guard: Guard, url: str) -> None:
    """Raise the proxy's error: UnsafeURL, or NoStream where too much was fetched."""
    guard.check()
    if guard.is_spent:
        raise NoStream(f"{url}: its page can't be read: more than {MAX_BYTES >> 20} MB of it")


def _error(
    wanted: ExtractionRequest, kind: str, text: str, status: object, retry_s: float | None
) -> CaptureError:
    url, (host, port) = wanted.url, read_host(wanted.url)
    upstream = wanted.policy.upstream_for(host, port)
    by = upstream.shown if upstream is not None else ""
    if kind == "unsafe":
        return UnsafeURL(text)
    if kind == "not live":
        return NotLive(f"{url}: not on air now")
    if kind in REFUSALS:
        return NotWatchable(f"{url}: {advice(kind, text, host)}")
    if kind == "sound only":
        return NotWatchable(f"{url}: {text}")
    if kind == "too much":
        return NoStream(f"{url}: its page takes more memory than allowed")
    if kind == "unreachable":
        known = status if isinstance(status, int) and 100 <= status <= 999 else None
        text = refusal(text, host) if known in _REFUSED else text
        return SourceUnreachable(f"{url}: {text}{by}", status=known, retry_after_s=retry_s)
    return NoStream(f"{url}: {text}{by}")


def without_secrets(text: str, access: Access) -> str:
    """Return a text of yt-dlp, its extractors or plugins without the operator's secrets."""
    values = [v for each in access.headers for _, value in each.pairs for v in value.split()]
    values += [each.value or "" for each in read_cookies(access.cookies)]
    for named in access.extractor_arguments.values():
        values += [v for given in named.values() for value in given for v in value.split("+")]
    for value in sorted(filter(_is_secret, values), key=len, reverse=True):
        # yt-dlp gives extractors their arguments in lower case.
        text = re.sub(re.escape(value), "...", text, flags=re.IGNORECASE)
    return text


def _is_secret(value: str) -> bool:
    return len(value) >= _MIN_SECRET_CHARS


def text_of(value: object) -> str:
    """Return a site's text or number, cleaned for display; else an empty text."""
    return clean(str(value)[:_MAX_TEXT_CHARS]) if isinstance(value, str | int | float) else ""
