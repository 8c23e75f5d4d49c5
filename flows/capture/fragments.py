"""Fragments of MP4 that can be opened on their own: their timestamps counted from their beginning.

A live fragment carries the time since the encoder started (`tfdt` and `sidx`, ISO/IEC 14496-12,
8.8.12 and 8.16.3), and readers take a file's last timestamp for its length: hours, of which all but
the last seconds are missing.
"""

from collections.abc import Iterator

from flows.capture.segment import UnreadableMedia

_CONTAINERS = (b"moov", b"trak", b"mdia", b"moof", b"traf")


def count_from_zero(data: bytearray, begin: int) -> None:
    """Rewrite an initialisation section and, from `begin` on, fragments; nothing else changes.

    All tracks move by the same time. Raises UnreadableMedia for boxes that are none.
    """
    scales: dict[int, int] = {}
    times: list[tuple[int, int, int, int]] = []  # where, how long, the value, ticks a second
    index: list[tuple[int, int, int, int]] = []
    track = 0
    for kind, at, end in _boxes(data, 0, len(data)):
        wide = data[at] == 1 if at < end else False
        if kind == b"tkhd":
            track = _number(data, at + (20 if wide else 12), 4)
        elif kind == b"mdhd":
            scales[track] = _number(data, at + (20 if wide else 12), 4)
        elif kind == b"tfhd" and at >= begin:
            track = _number(data, at + 4, 4)
        elif kind == b"tfdt" and at >= begin:
            size = 8 if wide else 4
            value = _number(data, at + 4, size)
            times.append((at + 4, size, value, scales.get(track, 0) or 1))
        elif kind == b"sidx" and at >= begin:
            size = 8 if wide else 4
            index.append((at + 12, size, _number(data, at + 12, size), _number(data, at + 8, 4)))
    if not times:
        return
    _, _, first, first_scale = min(times, key=lambda time: time[2] / time[3])
    for at, size, value, scale in times + index:
        moved = max(0, value - first * scale // first_scale)
        data[at : at + size] = moved.to_bytes(size, "big")


def _boxes(data: bytearray, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the content of each box, containers' contents included."""
    while at + 8 <= end:
        size, kind, head = _number(data, at, 4), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = _number(data, at + 8, 8), 16
        stop = end if size == 0 else at + size
        if stop > end or stop < at + head:
            return  # cut off: what reads the file will say so
        yield kind, at + head, stop
        if kind in _CONTAINERS:
            yield from _boxes(data, at + head, stop)
        at = stop


def _number(data: bytearray, at: int, size: int) -> int:
    if at + size > len(data):
        raise UnreadableMedia("a fragment of MP4 is cut off")
    return int.from_bytes(data[at : at + size], "big")
