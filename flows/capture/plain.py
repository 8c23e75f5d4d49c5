"""Text from outside as one line that a terminal, a log, the database and a page can show."""

from typing import Final

_JOINERS: Final = "\u200c\u200d"
"""Characters without a picture of their own that some scripts, and emoji, are written with."""

_UNKNOWN: Final = "\ufffd"

_ALIKE: Final = str.maketrans({"<": "‹", ">": "›", "`": "'"})
"""Characters that begin HTML, a mention in a chat, or code in Markdown, and their look-alikes."""


def plain(text: str) -> str:
    """Return a text that is read and does not act; once more changes nothing.

    Ends of lines and odd spaces become spaces. Control and escape characters, such as NUL, what
    turns the direction of writing, lone surrogates and what Unicode has not given out become the
    replacement character. No HTML is left, and no link or picture of Markdown.
    """
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() or c in _JOINERS else " " if c.isspace() else _UNKNOWN
            for c in text
        )
    return text.translate(_ALIKE).replace("](", "] (")
