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
    """Write renewed cookies to a file, atomically, unless the file has changed.

    before: the file's text as it was read. after: all current cookies; those of other sites are
    not written. Cookies that a site deleted stay, so that one bad response does not end a login.
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
            return  # another program has written it: that is newer
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
        _log.warning("renewed cookies can't be written to %s; the login may end: %s", path, why)


def _is_below(domain: str, other: str) -> bool:
    domain = domain.lstrip(".")
    return domain == other or domain.endswith(f".{other}")


def _name(cookie: Cookie) -> tuple[Any, ...]:
    return cookie.domain, cookie.path, cookie.name


def _value(cookie: Cookie | None) -> tuple[Any, ...] | None:
    return None if cookie is None else (cookie.value, cookie.expires)
