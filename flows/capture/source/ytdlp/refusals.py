"""Classifies why a site refuses or fails, from yt-dlp's message, with advice on settings."""

import re
from typing import Final

_KINDS: Final = (
    (
        "drm",
        r"\bDRM\b|widevine|fairplay|playready",
        "it is encrypted by DRM, and cannot be watched",
        "",
    ),
    (
        "bot check",
        r"not a (?:ro)?bot|captcha|cloudflare|anti-bot|unusual traffic|too many requests",
        "the site takes this for a bot",
        "set cookies, player_clients, a proxy or a PO-token plugin",
    ),
    (
        "geo block",
        r"geo.?(?:restrict|block)|(?:your|this|from) (?:country|location|region)"
        r"|available (?:only )?(?:in|from) (?:the )?[A-Z]",
        "the site shows it only in other countries",
        "set a proxy in one of them",
    ),
    (
        "members only",
        r"members?.only|join this channel|channel.?s members|subscri(?:ber|ption)|premium"
        r"|purchase|rented|paid|pay.?per.?view",
        "it is for members only",
        "set cookies of an account that may watch it",
    ),
    (
        "login",
        r"log ?in|sign ?in|logged|registered|authenticat|private video|confirm your age"
        r"|age.restrict|inappropriate for some|cookies|credentials|password",
        "the site needs a login",
        "set cookies or netrc of an account",
    ),
)


_MAX_TEXT_CHARS: Final = 500
REFUSALS: Final = tuple(name for name, *_ in _KINDS)


def kind_of(text: str) -> str | None:
    """Return the kind of refusal of a yt-dlp message; None if unknown."""
    for kind, pattern, _, _ in _KINDS:
        if re.search(pattern, text, re.IGNORECASE if kind != "geo block" else 0):
            return kind
    return None


def refusal(text: str, host: str) -> str:
    """Return a line for a site that refuses without saying why."""
    return (
        f"{text}; if it wants a login, set cookies or headers of an account, or else a proxy, for "
        f'[site."{host}"] in sources.toml (docs/sources.md)'
    )


def advice(kind: str, text: str, host: str) -> str:
    """Return a line with the cause, yt-dlp's text, and what to set for the host."""
    for name, _, what, wish in _KINDS:
        if name == kind:
            quoted = f" ({text.rstrip('. ')})" if text else ""
            help_ = f'; {wish} for [site."{host}"] in sources.toml (docs/sources.md)'
            return f"{what}{quoted}{help_ if wish else ''}"
    return text


def failure_of(error: BaseException, timeout_s: float) -> str:
    """Return why a request failed, without what libraries say of the connection to our proxy."""
    text = line_of(error)
    if "timed out" in text:
        return f"no answer within {timeout_s:g} s"
    if "WRONG_VERSION_NUMBER" in text:
        return "the server does not speak TLS; give the URL with http://"
    if "RemoteDisconnected" in text or "Connection aborted" in text:
        return "the connection was closed without an answer"
    return text


def line_of(error: BaseException | str) -> str:
    """Return an error's text as one line, without advice on yt-dlp's options."""
    text = str(getattr(error, "orig_msg", None) or error)[: 4 * _MAX_TEXT_CHARS]
    text = re.split(r"[;.]? *(?:please report|Use --|See +https)", " ".join(text.split()))[0]
    return text[:_MAX_TEXT_CHARS]
