"""SCTE-35 messages, made here byte by byte."""

import base64

import pytest

from flows.capture.playlists.splice import read_splice


def message(kind: int, command: bytes, descriptors: bytes = b"") -> bytes:
    """Return a splice_info_section (ANSI/SCTE 35, table 5), with zeros for its CRC."""
    loop = len(descriptors).to_bytes(2, "big") + descriptors
    body = bytes(7) + b"\xff\xf0" + bytes([len(command), kind]) + command + loop + bytes(4)
    return b"\xfc\x30" + bytes([len(body)]) + body


def insert(*, out: bool, length_s: int = 0, at_once: bool = True, cancelled: bool = False) -> bytes:
    flags = 0x4F | (0x80 if out else 0) | (0x20 if length_s else 0) | (0x10 if at_once else 0)
    command = bytes(4) + bytes([0xFF if cancelled else 0x7F, flags])
    command += b"" if at_once else b"\xfe" + bytes(4)
    if length_s:
        command += ((0xFE << 32) | length_s * 90_000).to_bytes(5, "big")
    return message(5, command + bytes(4))


def signal(kind: int, *, length_s: int = 0) -> bytes:
    flags = 0xBF | (0x40 if length_s else 0)
    body = b"CUEI" + bytes(4) + bytes([0x7F, flags])
    body += (length_s * 90_000).to_bytes(5, "big") if length_s else b""
    body += bytes([0, 0, kind, 1, 1])
    return message(6, b"\xfe" + bytes(4), bytes([2, len(body)]) + body)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (insert(out=True, length_s=30), ("out", 30.0)),
        (insert(out=True, at_once=False), ("out", None)),
        (insert(out=True, at_once=False, length_s=70_000), ("out", 70_000.0)),
        (insert(out=False), ("in", None)),
        (insert(out=True, cancelled=True), None),
        (signal(0x34, length_s=60), ("out", 60.0)),
        (signal(0x30), ("out", None)),
        (signal(0x35), ("in", None)),
        (signal(0x10), None),
        (message(0, b""), None),
        (insert(out=True)[:17], None),
        (b"\xfd" + insert(out=True)[1:], None),
    ],
    ids=[
        "out, 30 s",
        "out at a time",
        "out at a time, of length",
        "in",
        "cancelled",
        "placement of a minute",
        "advertisement",
        "placement ends",
        "programme begins",
        "null",
        "cut",
        "another table",
    ],
)
def test_a_message_says_when_a_break_begins_or_ends(data: bytes, found: object) -> None:
    assert read_splice(base64.b64encode(data).decode()) == found
    assert read_splice("0x" + data.hex()) == found


@pytest.mark.parametrize("text", ["", "no", "0xzz", "/DA=", '"', "A" * 100_000])
def test_other_texts_say_nothing(text: str) -> None:
    assert read_splice(text) is None
