"""Sanitises text from outside into one line, safe for a terminal, a log, the database, a page."""

from typing import Final

_JOINERS: Final = "\u200c\u200d"
"""Zero-width joiners, which some scripts and emoji need."""

_UNKNOWN: Final = "\ufffd"

_ALIKE: Final = str.maketrans({"<": "‹", ">": "›", "`": "'"})
"""Characters that begin HTML, a chat mention, or code in Markdown, and their look-alikes."""


def plain(text: str) -> str:
    """Return the text without control characters and markup; idempotent.

    Line ends and unusual spaces become spaces. Control and escape characters, such as NUL,
    bidirectional overrides, lone surrogates and unassigned code points become the replacement
    character. No HTML is left, and no Markdown link or image.
    """
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() or c in _JOINERS else " " if c.isspace() else _UNKNOWN
            for c in text
        )
    return text.translate(_ALIKE).replace("](", "] (")
