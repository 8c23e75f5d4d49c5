"""Removes secrets from URLs, for errors, logs, rows and pages.

A URL's secrets are in its query, before its host, or in its path: after a name such as "token", or
as a long word.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from flows.capture.plain import plain

_MAX_RAW_CHARS: Final = 64 * 1024
_MAX_TEXT_CHARS: Final = 4000
"""Longest text from outside, in characters: before its URLs are searched, and after."""

_MAX_URL_CHARS: Final = 8192
_MAX_HOST_CHARS: Final = 255
_MAX_CHARS: Final = 120
_MAX_NAME_CHARS: Final = 40
"""A longer name in a path may be a signature."""

_MAX_NAMES: Final = 8
_SIGNS: Final = re.compile(
    r"l?sig(nature)?|token|auth\w*|key|secret|hmac|hd(nea|nts|ntl)|policy", re.IGNORECASE
)
"""A name in a path that a signature follows."""

_VIDEO: Final = re.compile(r"v=[\w-]{11}(?=&|$)")
"""YouTube's video id in a query: shown, as the URL means nothing without it."""

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{1,20}:(?://|\\\\)[^\s\"<>]+", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\s\"<>]+")
_OPAQUE: Final = re.compile(r"(\.\.\.|v=[\w-]{11})['.,:;)\]!]*\Z")
"""After a question mark: nothing but what is hidden already, or may be shown."""

_HIDDEN: Final = re.compile(r"\.\.\.(\.[^.]{1,5})?")
"""A name in a path that is hidden already, with its suffix."""

_PARAMETER: Final = re.compile(r"[\w.-]+=")
_ENDS: Final = "'.,:;)]!"
"""Characters that end a sentence or a quotation after a URL."""

_PIECE: Final = re.compile(r"[^\s/'\"]+")
_BREAKS: Final = (":", "[", "(")


def shorten(url: str) -> str:
    """Return scheme, host and path of a URL, without secrets, for one line; idempotent.

    Text that is not a URL is redacted as strictly.
    """
    url = "".join(c if c.isprintable() else "?" for c in url[:_MAX_URL_CHARS])
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError, too
    except ValueError:  # such as a password with a # in it
        return f"{url.partition(':')[0][:20].lower()}://..."
    # No host is longer: the @ after a password may have been cut off.
    if len(parts.netloc) > _MAX_HOST_CHARS:
        return f"{parts.scheme[:20]}://..."
    if not parts.netloc:
        text = re.sub("^//+", "/", parts.path.rpartition("@")[2])
        return _cut(f"{parts.scheme}:{text}" if parts.scheme else text)
    _, at, host = parts.netloc.rpartition("@")
    video = _VIDEO.match(parts.query)
    query = f"?{video[0]}" if video else "?..." if parts.query else ""
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    return _cut(f"{scheme}//{'...@' if at else ''}{host}{_shorten_path(parts.path)}{query}")


def clean(text: str) -> str:
    """Return plain text in which each URL, and what may be part of one, is shortened.

    Long text is cut. Takes linear time for any text.
    """
    text = _URL.sub(_shorten_found, _cut_text(text, _MAX_RAW_CHARS))
    text = _cut_text(text, _MAX_TEXT_CHARS)
    text = _WORD.sub(_hide_query, text)
    return plain(_PIECE.sub(_hide_user, text))


def _shorten_found(found: re.Match[str]) -> str:
    url = found[0].rstrip(_ENDS)
    if not url.partition("://")[2]:  # a scheme alone
        return found[0]
    if found[0].startswith("...", len(url)):
        url += "..."
    return shorten(url) + found[0][len(url) :]


def _hide_query(found: re.Match[str]) -> str:
    """Return a word without its query: after a path's question mark, or one before `name=`.

    Punctuation at its end stays.
    """
    word = found[0]
    after_last = 0
    at = word.find("?")
    while at >= 0:
        is_query = "/" in word[after_last:at] or _PARAMETER.match(word, at + 1)
        if is_query and at + 1 < len(word) and not _OPAQUE.match(word, at + 1):
            # At least one character is hidden, though it might end a sentence.
            ends = len(word[at + 2 :].rstrip(_ENDS)) + at + 2
            return f"{word[: at + 1]}...{word[ends:]}"
        after_last = at + 1
        at = word.find("?", after_last)
    return word


def _hide_user(found: re.Match[str]) -> str:
    """Return a piece of a word without the user name and password before an @."""
    parts = found[0].split("@")
    for n, part in enumerate(parts[:-1]):
        begins = parts[n + 1][:1]
        if begins.isalnum() or begins in ("_", "["):
            parts[n] = _without_user(part)
    return "@".join(parts)


def _without_user(part: str) -> str:
    colon = part.find(":", 1)
    while colon >= 0 and (part[colon - 1] in _BREAKS or colon == len(part) - 1):
        colon = part.find(":", colon + 1)
    if colon < 0:
        return part
    return part[: max(part.rfind(each, 0, colon) for each in _BREAKS) + 1] + "..."


def _shorten_path(path: str) -> str:
    names = [name.partition(";")[0] for name in path.split("/")]
    shown = [_shorten_name(name, before) for before, name in zip(["", *names], names, strict=False)]
    if len(shown) > _MAX_NAMES:
        shown = [*shown[:4], "...", shown[-1]]
    return "/".join(shown)


def _shorten_name(name: str, before: str) -> str:
    begin, equals, _ = name.partition("=")
    if equals:
        return f"{begin}=..."
    if len(name) <= _MAX_NAME_CHARS and (not _SIGNS.fullmatch(before) or _HIDDEN.fullmatch(name)):
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"...{dot}{suffix}" if stem and len(suffix) <= 5 else "..."


def _cut_text(text: str, longest: int) -> str:
    """Return the beginning of a text, without its last word if that may be half a secret.

    Half a password or half a query is not recognised later; a URL's host is.
    """
    if len(text) <= longest:
        return text
    head = text[:longest]
    last = head.rsplit(maxsplit=1)[-1] if head.strip() else ""
    if not _URL.match(last) and any(each in last for each in ":?"):
        head = head.rstrip().removesuffix(last).rstrip()
    return f"{head} ..."


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 3]}..."
