"""The operator's cookies file, kept up to date as a site renews its cookies."""

import contextlib
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from http.cookiejar import Cookie
from pathlib import Path
from typing import Any

from flows.capture.net.cookies import MAX_FILE_CHARS, read_cookies, write_cookies
from flows.capture.source.operator.private_files import read_private

_log = logging.getLogger(__name__)


def update_cookies(path: Path, *, before: str, after: str) -> None:
    """Write renewed cookies to a file, atomically.

    before: the file's text as it was read. after: all current cookies; those of other sites are
    not written. Cookies that a site deleted stay, so that one bad response does not end a login.
    Where another show or program has written to the file since, its cookies stay, and those that it
    left alone are renewed.
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
        with _locked(path) as mode:
            now = read_private(path, MAX_FILE_CHARS)
            if now != before:
                current = {_name(each): each for each in read_cookies(now)}
                changed = {
                    name: each
                    for name, each in changed.items()
                    if name in known and _value(current.get(name)) == _value(known[name])
                }
                known = current
            if changed:
                _replace(path, write_cookies((known | changed).values()), mode)
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        _log.warning("renewed cookies can't be written to %s; the login may end: %s", path, why)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the file's lock, so that no other show writes to it; yields the file's mode."""
    while True:
        with path.open("rb") as file:
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)  # only we can open the file, and hold it shortly
            status = os.fstat(file.fileno())
            if os.path.samestat(status, path.stat()):
                yield stat.S_IMODE(status.st_mode)
                return
            # It was replaced while we waited.


def _replace(path: Path, text: str, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_below(domain: str, other: str) -> bool:
    domain = domain.lstrip(".")
    return domain == other or domain.endswith(f".{other}")


def _name(cookie: Cookie) -> tuple[Any, ...]:
    return cookie.domain, cookie.path, cookie.name


def _value(cookie: Cookie | None) -> tuple[Any, ...] | None:
    return None if cookie is None else (cookie.value, cookie.expires)
