"""Finds out whether a file goes on after the last picture that was read.

Files are put together by appending one to another. Readers then stop at the end of the first one
(MP4, FLV), or pass over what is in streams that the file does not begin with (MPEG-TS).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PACKET_BYTES: Final = 188
_SYNC: Final = 0x47
_VIDEO_STREAMS: Final = range(0xE0, 0xF0)  # ISO/IEC 13818-1, table 2-22
_FLV: Final = b"FLV\x01"
_STEP_BYTES: Final = 1 << 20
_BEGINNING_BYTES: Final = 8 << 20
_MAX_BOXES: Final = 100_000


def unread_rest(path: Path, kind: str, *, read_bytes: int, pid: int) -> str | None:
    """Return where there is another video after the first `read_bytes`; None if there is none.

    kind: the container's name in libavformat. pid: of the video that was read (MPEG-TS).
    """
    if kind == "mpegts":
        other = next(_videos(path, read_bytes, path.stat().st_size, without=pid), None)
        if other is None or other in _videos(path, 0, min(read_bytes, _BEGINNING_BYTES)):
            return None  # It has two videos from its beginning on.
        return f"goes on in another video stream (PID {other}), after {read_bytes} bytes"
    if kind.startswith("mov"):
        at = _second_moov(path, read_bytes)
    elif kind == "flv":
        at = _find(path, _FLV, read_bytes)
    else:
        at = None
    return None if at is None else f"has another video appended, after {at} bytes"


def _videos(path: Path, begin: int, end: int, *, without: int = -1) -> Iterator[int]:
    """Yield the PIDs of pictures that begin in this part of an MPEG-TS file."""
    with path.open("rb") as file:
        file.seek(begin // _PACKET_BYTES * _PACKET_BYTES)
        while data := file.read(min(_PACKET_BYTES * 4096, max(0, end - file.tell()))):
            for at in range(0, len(data) - 12, _PACKET_BYTES):
                if data[at] != _SYNC:
                    return
                pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
                if pid == without or not data[at + 1] & 0x40:
                    continue
                start = at + 4 + (data[at + 4] + 1 if data[at + 3] & 0x20 else 0)
                if data[start : start + 3] == b"\0\0\1" and data[start + 3] in _VIDEO_STREAMS:
                    yield pid


def _second_moov(path: Path, read_bytes: int) -> int | None:
    """Return where a second movie begins that was not read (ISO/IEC 14496-12, 4.2)."""
    size, at, n_movies = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            file.seek(at)
            head = file.read(16)
            if len(head) < 8:
                return None
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:], "big") if length == 1 else length or size - at
            n_movies += head[4:8] == b"moov"
            if n_movies > 1 and at >= read_bytes:
                return at
            if length < 8:
                return None
            at += length
    return None


def _find(path: Path, mark: bytes, begin: int) -> int | None:
    with path.open("rb") as file:
        file.seek(begin)
        before = b""
        while data := file.read(_STEP_BYTES):
            found = (before + data).find(mark)
            if found >= 0:
                return begin + found - len(before)
            begin += len(data)
            before = data[-len(mark) + 1 :]
    return None
