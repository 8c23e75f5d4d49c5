"""Why a site shows nothing, by what yt-dlp says of it, and what an operator can set against it."""

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
        "the site shows it in other countries alone",
        "set a proxy there",
    ),
    (
        "members only",
        r"members?.only|join this channel|channel.?s members|subscri(?:ber|ption)|premium"
        r"|purchase|rented|paid|pay.?per.?view",
        "it is for members alone",
        "set cookies of an account that may watch it",
    ),
    (
        "login",
        r"log ?in|sign ?in|logged|registered|authenticat|private video|confirm your age"
        r"|age.restrict|inappropriate for some|cookies|credentials|password",
        "the site wants a login",
        "set cookies or netrc of an account",
    ),
)


REFUSALS: Final = tuple(name for name, *_ in _KINDS)


def kind_of(said: str) -> str | None:
    """Return the kind of refusal that a text of yt-dlp's means; None if unknown."""
    for kind, pattern, _, _ in _KINDS:
        if re.search(pattern, said, re.IGNORECASE if kind != "geo block" else 0):
            return kind
    return None


def advice(kind: str, said: str, host: str) -> str:
    """Return a line that says what it is and what to set for which host."""
    for name, _, what, wish in _KINDS:
        if name == kind:
            quoted = f" ({said.rstrip('. ')})" if said else ""
            help_ = f'; {wish} for [site."{host}"] in sources.toml (docs/sources.md)'
            return f"{what}{quoted}{help_ if wish else ''}"
    return said
