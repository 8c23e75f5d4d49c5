"""The names of sites in sources.toml, and which host a wrong name means."""

import ipaddress
import re
from collections.abc import Collection, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from flows.capture.headers import ascii_host

ANY: Final = "*"
"""Instead of a host: any of them may be meant."""

_MAX_LABELS: Final = 10
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def meant_host(written: str) -> str:
    """Return the host that a site's name means, as it has to be written; empty if unknown.

    Takes a URL, a port, a wildcard, upper case and letters of other languages for what they mean.
    """
    text = written.strip()
    text = text if "://" in text else f"//{text}"
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:
        host = ""
    address = _address(written.strip(" []")) or _address(host)
    if address:
        return address
    host = ascii_host(host.removeprefix("*").strip("."))
    return host if _HOST.fullmatch(host) else ""


def host_of(url: str) -> str:
    """Return a URL's host as sites are named; raises ValueError."""
    host = urlsplit(url).hostname or ""
    return _address(host) or ascii_host(host.rstrip("."))


def unquoted(name: str, entry: object, known: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the sites of a table [site.example.com], whose name TOML takes for tables in tables."""
    if not isinstance(entry, dict) or name.count(".") > _MAX_LABELS:
        return
    for key, value in entry.items():
        if key not in known and isinstance(value, dict):
            yield from unquoted(f"{name}.{key}", value, known)
            if not value or not all(
                k not in known and isinstance(v, dict) for k, v in value.items()
            ):
                yield f"{name}.{key}", value


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
