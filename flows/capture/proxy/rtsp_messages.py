"""Parses RTSP messages of a connection, and the interleaved packets between them (RFC 2326)."""

from abc import ABC, abstractmethod
from typing import Final

from flows.capture.segment import SourceUnreachable

_MAX_HEAD_BYTES: Final = 16 * 1024


class Messages(ABC):
    """Parses and filters the messages of one side.

    endless: error text for a message whose head is too long.
    """

    def __init__(self, *, endless: str) -> None:
        """Begin with nothing read."""
        self._endless, self._buffer = endless, bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take received bytes, and return those to pass on; raises SourceUnreachable, UnsafeURL."""
        self._buffer += data
        passed = bytearray()
        while part := self._take():
            passed += part
        return bytes(passed)

    @abstractmethod
    def _take(self) -> bytes:
        """Return the next packet or message to pass on; empty while it is incomplete."""

    def _packet(self) -> bytes:
        """Return the packet at the buffer's start (10.12); empty while it is incomplete."""
        size = 4 + int.from_bytes(self._buffer[2:4], "big")
        return self._cut(size) if len(self._buffer) >= max(4, size) else b""

    def _head(self) -> bytes | None:
        """Return the head at the buffer's start, and leave it there; None while incomplete."""
        head, end, _ = bytes(self._buffer[:_MAX_HEAD_BYTES]).partition(b"\r\n\r\n")
        if not end and len(self._buffer) >= _MAX_HEAD_BYTES:
            raise SourceUnreachable(self._endless)
        return head if end else None

    def _cut(self, n_bytes: int) -> bytes:
        part = bytes(self._buffer[:n_bytes])
        del self._buffer[:n_bytes]
        return part
