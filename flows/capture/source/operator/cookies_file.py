"""The operator's cookies file, kept up to date as a site renews its cookies."""

import logging
import os
import tempfile
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any

from flows.capture.net.cookies import read_cookies, write_cookies

_log = logging.getLogger(__name__)


def update_cookies(path: Path, *, before: str, after: str) -> None:
    """Write new values of its cookies to a file, whole or not at all, unless it has changed.

    before: what was read from it. after: all cookies there are now, of which those of other sites
    are not written. What a site took back stays: a login is not lost by one bad answer.
    """
    known = {_name(each): each for each in read_cookies(before)}
    domains = {each.domain.lstrip(".") for each in known.values()}
    new = {
        _name(each): each
        for each in read_cookies(after)
        if any(_is_below(each.domain, domain) for domain in domains)
    }
    changed = {name: each for name, each in new.items() if _value(known.get(name)) != _value(each)}
    if not changed:
        return
    try:
        path = path.resolve()  # a link stays one
        if path.read_text(encoding="utf-8-sig") != before:
            return  # Somebody else wrote, and knows better.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:  # 0600
                file.write(write_cookies((known | changed).values()))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, UnicodeError) as e:
        why = getattr(e, "strerror", None) or str(e)
        _log.warning("new cookies are not written to %s, and that login may end: %s", path, why)


def _is_below(domain: str, other: str) -> bool:
    domain = domain.lstrip(".")
    return domain == other or domain.endswith(f".{other}")


def _name(cookie: Cookie) -> tuple[Any, ...]:
    return cookie.domain, cookie.path, cookie.name


def _value(cookie: Cookie | None) -> tuple[Any, ...] | None:
    return None if cookie is None else (cookie.value, cookie.expires)
