"""SCTE-35 messages in tags of a playlist (ANSI/SCTE 35 2023, 9.6 to 9.8 and 10.3.3)."""

import base64
import binascii
from typing import Final, Literal

_TABLE_ID: Final = 0xFC
_INSERT: Final = 5
_TIME_SIGNAL: Final = 6
_COMMAND_AT: Final = 14
_SEGMENTATION: Final = 2
_STARTS: Final = frozenset((0x22, 0x30, 0x32, 0x34, 0x36, 0x44, 0x46))
"""Segmentation types that begin a break, an advertisement, or a place for one; their ends are one
more (table 23)."""

_TICKS_PER_S: Final = 90_000
_MAX_CHARS: Final = 8 * 1024


def read_splice(text: str) -> tuple[Literal["out", "in"], float | None] | None:
    """Return what a message in base64 or hexadecimal says: out of the programme or back in.

    With the seconds of the break, if it says them. None if it says neither, or can't be read.
    """
    text = text.strip(' "')[:_MAX_CHARS]
    try:
        is_hex = text[:2].lower() == "0x"
        data = bytes.fromhex(text[2:]) if is_hex else base64.b64decode(text, validate=True)
        if data[0] != _TABLE_ID:
            return None
        if data[_COMMAND_AT - 1] == _INSERT:
            return _read_insert(data[_COMMAND_AT:])
        if data[_COMMAND_AT - 1] == _TIME_SIGNAL:
            return _read_descriptors(data[_COMMAND_AT + _time_bytes(data[_COMMAND_AT]) :])
    except (binascii.Error, ValueError, IndexError):
        pass
    return None


def _time_bytes(first: int) -> int:
    """Return how long a splice_time is, by its first byte."""
    return 5 if first & 0x80 else 1


def _read_insert(data: bytes) -> tuple[Literal["out", "in"], float | None] | None:
    if data[4] & 0x80:  # cancelled
        return None
    is_out, of_program, has_length, at_once = (data[5] & bit for bit in (0x80, 0x40, 0x20, 0x10))
    at = 6
    if of_program and not at_once:
        at += _time_bytes(data[at])
    elif not of_program:
        n_components, at = data[at], at + 1
        for _ in range(n_components):
            at += 1 + (0 if at_once else _time_bytes(data[at + 1]))
    length_s = None
    if has_length:
        length_s = (int.from_bytes(data[at : at + 5], "big") & ((1 << 33) - 1)) / _TICKS_PER_S
    return ("out", length_s) if is_out else ("in", None)


def _read_descriptors(data: bytes) -> tuple[Literal["out", "in"], float | None] | None:
    end, at = 2 + int.from_bytes(data[:2], "big"), 2
    found: tuple[Literal["out", "in"], float | None] | None = None
    while at + 2 <= min(end, len(data)):
        tag, body = data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + len(body)
        if tag != _SEGMENTATION or body[8] & 0x80:
            continue
        place = 10 if body[9] & 0x80 else 11 + 6 * body[10]
        length_s = None
        if body[9] & 0x40:
            length_s = int.from_bytes(body[place : place + 5], "big") / _TICKS_PER_S
            place += 5
        kind = body[place + 2 + body[place + 1]]
        if kind in _STARTS:
            return "out", length_s
        if kind - 1 in _STARTS:
            found = "in", None
    return found
