"""Shifts the timestamps of MPEG-TS (ISO/IEC 13818-1), and changes nothing else."""

from typing import Final

from flows.demo.errors import DemoError

TICKS_PER_S: Final = 90_000
_WRAP: Final = 1 << 33
_PACKET: Final = 188
_SYNC: Final = 0x47


def move_timestamps(data: bytes, by_s: float) -> bytes:
    """Return a transport stream whose every PCR, PTS and DTS is later by so many seconds.

    Raises DemoError for what is no transport stream.
    """
    ticks = round(by_s * TICKS_PER_S)
    if not ticks:
        return data
    moved = bytearray(data)
    if len(moved) % _PACKET or any(moved[at] != _SYNC for at in range(0, len(moved), _PACKET)):
        raise DemoError("timestamps can be moved only in MPEG-TS")
    for packet in range(0, len(moved), _PACKET):
        control = moved[packet + 3] >> 4 & 3  # 2.4.3.2: 1 payload, 2 adaptation field, 3 both
        payload = packet + 4
        if control & 2:
            length = moved[packet + 4]
            if length and moved[packet + 5] & 0x10:
                _move_pcr(moved, packet + 6, ticks)
            payload += 1 + length
        begins = moved[packet + 1] & 0x40
        if control & 1 and begins and moved[payload : payload + 3] == b"\0\0\1":
            stamps = moved[payload + 7] >> 6  # 2.4.3.6: 2 a PTS, 3 a PTS and a DTS
            if stamps & 2:
                _move_stamp(moved, payload + 9, ticks)
            if stamps == 3:
                _move_stamp(moved, payload + 14, ticks)
    return bytes(moved)


def _move_pcr(data: bytearray, at: int, ticks: int) -> None:
    """2.4.3.4: 33 bits of 90 kHz, 6 reserved, 9 of 27 MHz."""
    field = int.from_bytes(data[at : at + 6], "big")
    base = (field >> 15) + ticks
    data[at : at + 6] = (base % _WRAP << 15 | field & 0x7FFF).to_bytes(6, "big")


def _move_stamp(data: bytearray, at: int, ticks: int) -> None:
    """2.4.3.6: 4 bits of kind, then 3, 15 and 15 bits, each followed by a marker."""
    field = int.from_bytes(data[at : at + 5], "big")
    stamp = (field >> 33 & 7) << 30 | (field >> 17 & 0x7FFF) << 15 | field >> 1 & 0x7FFF
    stamp = (stamp + ticks) % _WRAP
    moved = field >> 36 << 36 | (stamp >> 30) << 33 | (stamp >> 15 & 0x7FFF) << 17
    moved |= (stamp & 0x7FFF) << 1 | 1 << 32 | 1 << 16 | 1
    data[at : at + 5] = moved.to_bytes(5, "big")
