"""Packagings whose segments or playlists are made anew, for `benchmarks.origin.kinds`."""

import re
from dataclasses import replace
from typing import Final

from flows.demo.packaging import Packaging, Sealed
from flows.demo.server import Reply

_NUMBER: Final = re.compile(r"(\d{6,})\.ts$")
_BEFORE: Final = (b"ID3\4\0\0\0\0\0\5hello", bytes(100), bytes(range(60)))
"""A tag, zeros, and the rest of a packet."""


def of_an_hour(text: str) -> str:
    """Return a playlist with a target duration of an hour."""
    return re.sub(r"(TARGETDURATION:)\d+", r"\g<1>3600", text)


class PaddedOtherwise(Sealed):
    """Segments are encrypted; their padding is zeros, nines, or half a packet, in turn."""

    def pad(self, data: bytes, number: int) -> bytes:
        """Return whole blocks."""
        if number % 3 == 0:
            return data + bytes(-len(data) % 16)
        if number % 3 == 1:
            return data + bytes([9]) * (32 - len(data) % 16)
        return data + b"\x47\x1f\xff\x10" + b"\xff" * (-len(data) % 16 + 12)


class Dirty(Packaging):
    """Something stands before the packets of each segment."""

    def segment(self, path: str, reply: Reply) -> Reply:
        """Return it behind a tag, zeros, or the rest of a packet."""
        return replace(reply, body=_BEFORE[_number(path) % len(_BEFORE)] + reply.body)


def _number(path: str) -> int:
    found = _NUMBER.search(path)
    return int(found[1]) if found else 0
