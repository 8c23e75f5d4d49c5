"""Cookies of a stream's servers: few and small, as browsers keep them."""

import logging
from collections.abc import Iterable
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.request import Request

_log = logging.getLogger(__name__)

MOST: Final = 50
"""Of one answer, and in all: what every browser keeps of a site (RFC 6265, 6.1)."""

MAX_CHARS: Final = 16 * 1024
"""Of all cookies together; most servers take no more in a request."""

_LONGEST: Final = 4096

RawHeaders = Iterable[tuple[bytes, bytes]]


class _Few(DefaultCookiePolicy):
    def __init__(self) -> None:
        super().__init__()
        self.held: Iterable[Cookie] = ()
        self._said = False

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        """Refuse what would be too many, or too much; what is there is replaced."""
        others = [each for each in self.held if _name(each) != _name(cookie)]
        chars = sum(map(_chars, others)) + _chars(cookie)
        if len(others) >= MOST or chars > MAX_CHARS:
            if not self._said:
                _log.warning(
                    "%s sets more than %d cookies, or %d characters of them: no more are kept",
                    cookie.domain,
                    MOST,
                    MAX_CHARS,
                )
            self._said = True
            return False
        return super().set_ok(cookie, request)


class FewCookies(CookieJar):
    """A jar that takes no more once it is full; says so once."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        policy = _Few()
        super().__init__(policy)
        policy.held = self


def without_excess(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers without cookies that are too long, too many or of RFC 2965.

    The standard library reads the last in time that grows with the square of their length.
    """
    kept = []
    n_set = 0
    for name, value in headers:
        lower = name.lower()
        if lower == b"set-cookie":
            n_set += 1
        too_much = lower == b"set-cookie" and (n_set > MOST or len(value) > _LONGEST)
        if lower != b"set-cookie2" and not too_much:
            kept.append((name, value))
    return kept


def _name(cookie: Cookie) -> tuple[Any, ...]:
    return cookie.domain, cookie.path, cookie.name


def _chars(cookie: Cookie) -> int:
    return len(cookie.name) + len(cookie.value or "")
