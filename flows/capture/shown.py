"""URLs as people are told of them: in errors, logs, rows and the pages of a run.

What signs a request stands in its query, before the host, or in its path behind a name that says
so, or is long. None of that is for whoever reads a log.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from flows.capture.plain import plain

_LONGEST: Final = 120
_LONGEST_NAME: Final = 40
"""A name in a path that is longer is a signature, or might as well be one."""

_MOST_NAMES: Final = 8
_SIGNS: Final = re.compile(
    r"l?sig(nature)?|token|auth\w*|key|secret|hmac|hd(nea|nts|ntl)|policy", re.IGNORECASE
)
"""A name in a path after which comes what signs."""

_VIDEO: Final = re.compile(r"v=[\w-]{11}(?=&|$)")
"""YouTube's way to name a video: without it the address says nothing."""

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{1,20}:(?://|\\\\)[^\s\"<>]+", re.IGNORECASE)
_QUERY: Final = re.compile(
    r"(/[^\s?\"<>]*\?|\?(?=[\w.-]+=))(?!\.\.\.|v=[\w-]{11}(?![\w&-]))[^\s\"<>]+?"
    r"(?=[\'.,:;)\]!]*(?:[\s\"<>]|$))"
)
_USER: Final = re.compile(r"[^\s/:@'\"\[(]+:[^\s/@'\"]+@(?=[\w\[])")
_FOUND: Final = re.compile(r"(.*?(?:\.\.\.)?)(['.,:;)\]!]*)")
"""A URL, and what ends a sentence or a quotation after it."""


def shorten(url: str) -> str:
    """Return a URL fit for one line: scheme, host and path, without what may sign a request.

    Once more changes nothing. What is no URL is shown as little of.
    """
    url = "".join(c if c.isprintable() else "?" for c in url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - which raises, too
    except ValueError:  # such as a password with a # in it
        return f"{url.partition(':')[0][:20]}://..."
    if not parts.netloc:
        text = parts.path.rpartition("@")[2]
        return _cut(f"{parts.scheme}:{text}" if parts.scheme else text)
    _, at, host = parts.netloc.rpartition("@")
    video = _VIDEO.match(parts.query)
    query = f"?{video[0]}" if video else "?..." if parts.query else ""
    return _cut(f"{parts.scheme}://{'...@' if at else ''}{host}{_shorten_path(parts.path)}{query}")


def clean(text: str) -> str:
    """Return a plain text in which each URL is shortened, and what looks like a part of one."""
    text = _URL.sub(_shorten_found, text)
    text = _QUERY.sub(r"\1...", text)
    return plain(_USER.sub("...@", text))


def _shorten_found(found: re.Match[str]) -> str:
    url, after = _FOUND.fullmatch(found[0]).groups()  # type: ignore[union-attr]  # it always does
    return shorten(url) + after


def _shorten_path(path: str) -> str:
    names = [name.partition(";")[0] for name in path.split("/")]
    shown = [_shorten_name(name, before) for before, name in zip(["", *names], names, strict=False)]
    if len(shown) > _MOST_NAMES:
        shown = [*shown[:4], "...", shown[-1]]
    return "/".join(shown)


def _shorten_name(name: str, before: str) -> str:
    begin, equals, _ = name.partition("=")
    if equals:
        return f"{begin}=..."
    if len(name) <= _LONGEST_NAME and (not _SIGNS.fullmatch(before) or name.startswith("...")):
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"...{dot}{suffix}" if stem and len(suffix) <= 5 else "..."


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
