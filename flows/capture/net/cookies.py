"""Cookies of a stream's servers, limited in number and size."""

import ipaddress
import logging
import re
from collections.abc import Iterable, Iterator
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any, Final, Self
from urllib.request import Request

_log = logging.getLogger(__name__)

MAX_COOKIES: Final = 50
"""Limit for one response, and for a jar: what browsers keep at least (RFC 6265, 6.1)."""

MAX_CHARS: Final = 16 * 1024
"""Limit of all cookies together; most servers accept no more in a request."""

MAX_FILE_CHARS: Final = 512 * 1024
"""Limit of a cookies file; a browser's export of one site is a hundredth of it."""

_MAX_COOKIE_CHARS: Final = 4096
_HEADER: Final = "# Netscape HTTP Cookie File\n"
_HTTP_ONLY: Final = "#HttpOnly_"
_CAN_BE_SENT: Final = re.compile(r"[\x20-\x7e\x80-\xff]*")

RawHeaders = Iterable[tuple[bytes, bytes]]


class _Few(DefaultCookiePolicy):
    def __init__(self) -> None:
        super().__init__()
        self.held: Iterable[Cookie] = ()
        self.given: frozenset[tuple[Any, ...]] = frozenset()
        self._warned = False

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        """Refuse a new cookie above the limits; replacing one is always allowed."""
        name = _name(cookie)
        others = [each for each in self.held if _name(each) not in self.given | {name}]
        chars = sum(map(_chars, others)) + _chars(cookie)
        if len(others) >= MAX_COOKIES or chars > MAX_CHARS:
            if not self._warned:
                _log.warning(
                    "%s sets more than %d cookies, or %d characters of them: no more are kept",
                    cookie.domain,
                    MAX_COOKIES,
                    MAX_CHARS,
                )
            self._warned = True
            return False
        return super().set_ok(cookie, request)


class FewCookies(CookieJar):
    """A cookie jar with a limit on servers' cookies, which logs once that it is full.

    given: initial cookies, which do not count. Thread-safe.
    """

    def __init__(self, given: Iterable[Cookie] = ()) -> None:
        """Begin with the given cookies."""
        policy = _Few()
        super().__init__(policy)
        for each in given:
            self.set_cookie(each)
        policy.held = self
        policy.given = frozenset(map(_name, self))

    @classmethod
    def of(cls, text: str) -> Self:
        """Return a jar with the cookies of a file's text; raises ValueError."""
        return cls(read_cookies(text))

    def __iter__(self) -> Iterator[Cookie]:
        """Iterate over a snapshot of the cookies."""
        with self._cookies_lock:  # type: ignore[attr-defined]
            return iter(list(super().__iter__()))


def read_cookies(text: str) -> list[Cookie]:
    """Parse a cookies file in Netscape's format, as browser extensions and yt-dlp write it.

    Raises ValueError with the cause and the line, but without a cookie's value.
    """
    if len(text) > MAX_FILE_CHARS:
        raise ValueError(
            f"more than {MAX_FILE_CHARS >> 10} KB: export the cookies of this site alone"
        )
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        raise ValueError("JSON; export the cookies in Netscape's format (cookies.txt)")
    cookies = []
    # Not splitlines: it also splits at characters that cookies have, as of letters in UTF-8.
    for n, line in enumerate(re.split(r"\r\n|\n|\r", text.lstrip("\ufeff")), 1):
        is_http_only = line.startswith(_HTTP_ONLY)
        line = line.removeprefix(_HTTP_ONLY)
        if not line.strip() or (line.startswith("#") and not is_http_only):
            continue
        fields = line.split("\t")
        if len(fields) != 7:
            raise ValueError(
                f"line {n} has {len(fields)} fields and not 7, with tabs between them: export the "
                "cookies in Netscape's format (cookies.txt)"
            )
        domain, with_subdomains, path, secure, expires, name, value = fields
        if with_subdomains.upper() == "TRUE" and not domain.startswith(".") and _is_name(domain):
            domain = f".{domain}"
        if not _CAN_BE_SENT.fullmatch(name + value):
            raise ValueError(f"line {n} has a character that can't be sent; delete this cookie")
        if not domain.strip(".") or not path.startswith("/"):
            raise ValueError(f"line {n} names no domain and path")
        try:
            until = int(float(expires or 0)) or None
        except (ValueError, OverflowError):
            raise ValueError(f"line {n} has no valid expiry time") from None
        cookies.append(
            Cookie(
                version=0,
                name=name,
                value=value,
                port=None,
                port_specified=False,
                domain=domain.lower(),
                domain_specified=domain.startswith("."),
                domain_initial_dot=domain.startswith("."),
                path=path,
                path_specified=True,
                secure=secure.upper() == "TRUE",
                expires=until,
                discard=until is None,
                comment=None,
                comment_url=None,
                rest={"HttpOnly": ""} if is_http_only else {},
            )
        )
    return cookies


def _is_name(domain: str) -> bool:
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        return True
    return False


def write_cookies(cookies: Iterable[Cookie]) -> str:
    """Return a file in Netscape's format; cookies that it can't represent are left out."""
    lines = [_HEADER]
    for each in cookies:
        name, value = (each.name, each.value) if each.value is not None else ("", each.name)
        fields = [
            each.domain,
            str(each.domain.startswith(".")).upper(),
            each.path,
            str(each.secure).upper(),
            str(each.expires or 0),
            name,
            value,
        ]
        if all(map(_CAN_BE_SENT.fullmatch, fields)):
            prefix = _HTTP_ONLY if each.has_nonstandard_attr("HttpOnly") else ""
            lines.append(prefix + "\t".join(fields) + "\n")
    return "".join(lines)


def without_excess(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return response headers without cookies that are too long, too many, or of RFC 2965.

    The standard library parses the latter in quadratic time.
    """
    kept = []
    n_set = 0
    for name, value in headers:
        lower = name.lower()
        if lower == b"set-cookie":
            n_set += 1
        too_much = lower == b"set-cookie" and (
            n_set > MAX_COOKIES or len(value) > _MAX_COOKIE_CHARS
        )
        if lower != b"set-cookie2" and not too_much:
            kept.append((name, value))
    return kept


def _name(cookie: Cookie) -> tuple[Any, ...]:
    return cookie.domain, cookie.path, cookie.name


def _chars(cookie: Cookie) -> int:
    return len(cookie.name) + len(cookie.value or "")
