"""The messages of RTSP as they come over a connection, and the packets between them (RFC 2326)."""

from abc import ABC, abstractmethod
from typing import Final

from flows.capture.segment import SourceUnreachable

_MAX_HEAD_BYTES: Final = 16 * 1024


class Messages(ABC):
    """What one side sends, taken apart and passed on.

    endless: what to say where the head of a message is too long.
    """

    def __init__(self, *, endless: str) -> None:
        """Have read nothing."""
        self._endless, self._buffer = endless, bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on of what came; raises SourceUnreachable, UnsafeURL."""
        self._buffer += data
        passed = bytearray()
        while part := self._take():
            passed += part
        return bytes(passed)

    @abstractmethod
    def _take(self) -> bytes:
        """Return the next packet or message as it is passed on; nothing while it is not whole."""

    def _packet(self) -> bytes:
        """Return the packet that the buffer begins with (10.12); nothing while it is not whole."""
        size = 4 + int.from_bytes(self._buffer[2:4], "big")
        return self._cut(size) if len(self._buffer) >= max(4, size) else b""

    def _head(self) -> bytes | None:
        """Return the head that the buffer begins with, and leave it there; None if not whole."""
        head, end, _ = bytes(self._buffer[:_MAX_HEAD_BYTES]).partition(b"\r\n\r\n")
        if not end and len(self._buffer) >= _MAX_HEAD_BYTES:
            raise SourceUnreachable(self._endless)
        return head if end else None

    def _cut(self, n_bytes: int) -> bytes:
        part = bytes(self._buffer[:n_bytes])
        del self._buffer[:n_bytes]
        return part
