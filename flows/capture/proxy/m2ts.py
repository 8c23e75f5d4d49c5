"""MPEG-TS in packets of 192 bytes, as in files of cameras and of Blu-ray discs (M2TS)."""

from typing import Final

_PACKET_BYTES: Final = 192
_STAMP_BYTES: Final = 4
"""The time of arrival before each packet."""

_SYNC: Final = b"\x47"  # ISO/IEC 13818-1, 2.4.3.2
_PACKETS: Final = 4


def without_stamps(data: bytes) -> bytes:
    """Return packets of 192 bytes as those of 188; what is something else, unchanged."""
    if data[_STAMP_BYTES::_PACKET_BYTES][:_PACKETS] != _SYNC * _PACKETS:
        return data
    places = range(_STAMP_BYTES, len(data), _PACKET_BYTES)
    return b"".join(data[at : at + _PACKET_BYTES - _STAMP_BYTES] for at in places)
