"""HTTP headers for requests of a stream, and to which hosts each of them may be sent."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"http": 80, "https": 443}

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
"""Without spaces at its ends: HTTP libraries refuse them, and show the value in their error."""

_MAX_VALUE_CHARS: Final = 16 * 1024

_FOR_ALL: Final = frozenset(
    {"accept", "accept-language", "origin", "sec-fetch-dest", "sec-fetch-mode", "user-agent"}
)
"""Headers that browsers send to every server; any other may identify a user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteHeaders:
    """Headers that the operator has set for a site: its host and all subdomains.

    only_https: never sent without encryption, as the show's page is at https.
    """

    site: str
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    only_https: bool = False

    def goes_to(self, url: str) -> bool:
        """Return whether requests of a URL get them."""
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or not self.only_https
        return is_safe and is_of_site(parts.hostname or "", self.site)


def is_of_site(host: str, site: str) -> bool:
    """Return whether a host is the site or a subdomain of it."""
    host = ascii_host(host.rstrip("."))
    return host == site or host.endswith(f".{site}")


def ascii_host(host: str) -> str:
    """Return a host's name in lower case, and as DNS has it (xn--...), where there is such a form.

    By the rules of `socket`, which looks the name up.
    """
    host = host.lower()
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host


class Headers:
    """Headers made for one URL, as yt-dlp returns them with it.

    All of them are sent to the URL's origin (scheme, host and port). Other origins, reached by a
    playlist or a redirect, get only the headers of every browser, and the origin of the Referer:
    no cookies, no Authorization, no site-specific headers. of_sites: the operator's headers, sent
    to their sites wherever the URL came from.
    """

    def __init__(
        self,
        headers: Iterable[tuple[str, str]] = (),
        *,
        made_for: str = "",
        of_sites: Iterable[SiteHeaders] = (),
    ) -> None:
        """Keep the valid headers."""
        self._headers = tuple(each for each in headers if can_be_sent(*each))
        self._origin = _origin_of(made_for)
        self._of_sites = tuple(of_sites)

    def of(self, url: str) -> dict[str, str]:
        """Return the headers of a request for this URL."""
        sent = self._found_for(url)
        for each in self._of_sites:
            if each.goes_to(url):
                names = {name.lower() for name, _ in each.pairs}
                sent = {name: v for name, v in sent.items() if name.lower() not in names}
                sent |= dict(each.pairs)
        return sent

    def _found_for(self, url: str) -> dict[str, str]:
        if _origin_of(url) == self._origin:
            return dict(self._headers)
        sent = {name: value for name, value in self._headers if name.lower() in _FOR_ALL}
        for name, value in self._headers:
            # As browsers do: strict-origin-when-cross-origin (Referrer Policy, 3.7).
            referrer = _split(value) if name.lower() == "referer" else None
            if referrer is not None and (referrer.scheme, urlsplit(url).scheme) != (
                "https",
                "http",
            ):
                sent[name] = f"{referrer.scheme}://{referrer.netloc.rpartition('@')[2]}/"
        return sent


def can_be_sent(name: str, value: str) -> bool:
    """Return whether a header is valid in HTTP (RFC 9110, 5.5 and 5.6.2) and short enough."""
    return (
        _NAME.fullmatch(name) is not None
        and _VALUE.fullmatch(value) is not None
        and len(value) <= _MAX_VALUE_CHARS
    )


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port
