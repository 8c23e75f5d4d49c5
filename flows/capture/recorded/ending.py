"""How a segment's file ends, and the counters by which the next segment would go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_SYNC: Final = 0x47
_PACKET_BYTES: Final = 188
_OTHER_PACKET_BYTES: Final = (192, 204)
"""Packet sizes of MPEG-TS with a timestamp, and with parity."""

_HEAD_PACKETS: Final = 512
_TAIL_PACKETS: Final = 2048
"""So many packets are looked at from a file's beginning and end, whatever its size."""

_COUNTS: Final = 16
"""The continuity counter of MPEG-TS has 4 bits (ISO/IEC 13818-1, 2.4.3.3)."""

_NULL_PID: Final = 0x1FFF
_FRAGMENTS: Final = 0
"""Stands for the PID of fMP4, which counts its fragments."""

_PES_HEAD_BYTES: Final = 6
_MOOF_BYTES: Final = 24
"""The head of a movie fragment, with its sequence number (ISO/IEC 14496-12, 8.8.5)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a file ends.

    is_whole: with a complete packet of MPEG-TS and a complete picture (one in 184 that are complete
    does not look so), or with a complete box of fMP4. counters: of the first packet of each PID
    (MPEG-TS), or of its first fragment (fMP4). next_counters: what the next segment's would be,
    where a packager counts through its segments.
    """

    is_whole: bool
    counters: Mapping[int, int] = field(default_factory=dict)
    next_counters: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Packet:
    """A packet's part of a PES packet (ISO/IEC 13818-1, 2.4.3.2 to 2.4.3.6)."""

    pid: int
    counter: int
    begins: bool
    is_stuffed: bool
    restarts: bool
    payload: memoryview


def read_ending(path: Path, *, fragmented: bool, pid: int) -> Ending:
    """Read how a file ends; pid: of its video in MPEG-TS. Raises OSError."""
    return _boxes(path) if fragmented else _packets(path, pid)


def _packets(path: Path, pid: int) -> Ending:
    size = path.stat().st_size
    n = size // _PACKET_BYTES
    with path.open("rb") as file:
        head = file.read(_HEAD_PACKETS * _PACKET_BYTES)
        if head[: _PACKET_BYTES + 1 : _PACKET_BYTES] not in (b"\x47", b"\x47\x47"):
            sizes = (_PACKET_BYTES, *_OTHER_PACKET_BYTES)
            return Ending(is_whole=any(size % each == 0 for each in sizes))
        file.seek(max(0, n - _TAIL_PACKETS) * _PACKET_BYTES)
        tail = file.read(_TAIL_PACKETS * _PACKET_BYTES)
    last: _Packet | None = None
    is_open, is_found, n_bytes = False, False, 0
    next_counters: dict[int, int] = {}
    for at in reversed(_places(tail)):
        packet = _read(tail, at)
        if packet is None:
            continue
        next_counters.setdefault(packet.pid, (packet.counter + 1) % _COUNTS)
        if packet.pid != pid or is_found:
            continue
        if last is None:
            last, is_open = packet, not packet.is_stuffed
        n_bytes += len(packet.payload)
        if packet.begins:
            is_found = True
            stated = int.from_bytes(packet.payload[4:6], "big")
            is_pes = (
                bytes(packet.payload[:3]) == b"\0\0\1" and len(packet.payload) >= _PES_HEAD_BYTES
            )
            if is_pes and stated:
                is_open = n_bytes < stated + _PES_HEAD_BYTES
    firsts: dict[int, _Packet] = {}
    for at in _places(head):
        packet = _read(head, at)
        if packet is not None:
            firsts.setdefault(packet.pid, packet)
    return Ending(
        is_whole=size % _PACKET_BYTES == 0 and not is_open,
        counters={pid: each.counter for pid, each in firsts.items() if not each.restarts},
        next_counters=next_counters,
    )


def _places(data: bytes) -> range:
    return range(0, len(data) - _PACKET_BYTES + 1, _PACKET_BYTES)


def _read(data: bytes, at: int) -> _Packet | None:
    """Return a packet; None for one that is not counted: of no stream, or without a payload.

    The last packet of a picture is padded in the adaptation field (2.4.3.5): where a file ends with
    a packet that is full, its picture goes on, but for one in 184.
    """
    pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
    control = data[at + 3] >> 4 & 3
    if data[at] != _SYNC or pid == _NULL_PID or not control & 1:
        return None
    begin, is_stuffed, restarts = at + 4, False, False
    if control & 2:
        length = data[at + 4]
        begin += 1 + length
        flags = data[at + 5] if length else 0
        restarts = bool(flags & 0x80)
        used = 1 + 6 * bool(flags & 0x10) + 6 * bool(flags & 0x08) + bool(flags & 0x04)
        if flags & 0x03:  # private data, an extension: their lengths follow
            for flag in (0x02, 0x01):
                if flags & flag and at + 5 + used < at + _PACKET_BYTES:
                    used += 1 + data[at + 5 + used]
        is_stuffed = not flags or length > used
    payload = memoryview(data)[min(begin, at + _PACKET_BYTES) : at + _PACKET_BYTES]
    begins = bool(data[at + 1] & 0x40)
    return _Packet(pid, data[at + 3] & 0x0F, begins, is_stuffed, restarts, payload)


def _boxes(path: Path) -> Ending:
    size = path.stat().st_size
    counters: list[int] = []
    at = 0
    is_whole: bool | None = None
    with path.open("rb") as file:
        while at < size and is_whole is None:
            file.seek(at)
            head = file.read(_MOOF_BYTES)
            length = int.from_bytes(head[:4], "big")
            if head[4:8] == b"moof" and head[12:16] == b"mfhd" and len(head) == _MOOF_BYTES:
                counters = [*counters[:1], int.from_bytes(head[20:24], "big")]
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if length < 8:
                is_whole = length == 0  # to the end of the file
            at += length
    return Ending(
        is_whole=at == size if is_whole is None else is_whole,
        counters={_FRAGMENTS: counters[0]} if counters else {},
        next_counters={_FRAGMENTS: counters[-1] + 1} if counters else {},
    )
