"""Whether a recording's video is HEVC, which few browsers play; read from the head of a file."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 1 << 18
_HEVC_BOXES: Final = re.compile(rb"hvc1|hev1|dvh1|dvhe")  # ISO/IEC 14496-15, 8.4.1
_HEVC_STREAM: Final = 0x24  # ISO/IEC 13818-1, table 2-34
_PACKET_BYTES: Final = 188
_SYNC: Final = 0x47


def is_hevc(path: Path) -> bool:
    """Return whether a file's video is HEVC; also False if it can't be read."""
    try:
        return _is_hevc(path)
    except OSError:
        return False


@lru_cache(maxsize=256)
def _is_hevc(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if path.suffix == ".mp4":
        return _HEVC_BOXES.search(head) is not None
    return _HEVC_STREAM in _stream_types(head)


def _stream_types(head: bytes) -> set[int]:
    """Return the stream types of an MPEG-TS file's first program (ISO/IEC 13818-1, 2.4.4)."""
    program: int | None = None
    for at in range(0, len(head) - _PACKET_BYTES + 1, _PACKET_BYTES):
        packet = head[at : at + _PACKET_BYTES]
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        begins = packet[0] == _SYNC and packet[1] & 0x40
        if not begins or pid not in (0, program):
            continue
        body = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        table = body[1 + body[0] :] if body else b""
        table = table[: 3 + (int.from_bytes(table[1:3], "big") & 0xFFF) - 4]  # without its CRC
        if pid == 0:
            programs = [table[n : n + 4] for n in range(8, len(table) - 3, 4)]
            program = next(
                (int.from_bytes(p[2:], "big") & 0x1FFF for p in programs if any(p[:2])), None
            )
        elif len(table) > 12:
            return _types_in(table)
    return set()


def _types_in(table: bytes) -> set[int]:
    found = set()
    at = 12 + (int.from_bytes(table[10:12], "big") & 0xFFF)
    while at + 5 <= len(table):
        found.add(table[at])
        at += 5 + (int.from_bytes(table[at + 3 : at + 5], "big") & 0xFFF)
    return found
