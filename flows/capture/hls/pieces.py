"""One HLS segment fetched, decrypted and written as a file that can be opened on its own."""

import io
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from flows.capture.net.fetch import Fetcher
from flows.capture.playlist import Entry, Key, Part
from flows.capture.segment import NoStream, UnreadableMedia

MAX_SEGMENT_BYTES: Final = 64 * 1024 * 1024
MAX_INIT_BYTES: Final = 1024 * 1024
_MOST_KEPT: Final = 8
_KEY_BYTES: Final = 16  # RFC 8216, 4.3.2.4

_SYNC: Final = b"\x47"  # ISO/IEC 13818-1, 2.4.3.2
_INIT_BOXES: Final = (b"ftyp", b"moov")
BOXES: Final = (b"styp", b"moof", b"sidx", b"ftyp", b"emsg", b"prft")
"""What a segment of fMP4, or its initialisation section, begins with (ISO/IEC 14496-12, 4.2)."""


class Pieces:
    """Fetches segments; keeps the newest initialisation sections and keys."""

    def __init__(self, fetcher: Fetcher) -> None:
        """Remember; nothing is fetched yet."""
        self.fetcher = fetcher
        self._kept: OrderedDict[Part, bytes] = OrderedDict()

    def fetch(self, entry: Entry, path: Path) -> int | None:
        """Write a segment, after its initialisation section if it has one.

        Returns how long that section is; None for MPEG-TS, which has none.
        Raises UnsafeURL, SourceUnreachable, NoStream (too much of it, or a cipher that is not
        AES-128), UnreadableMedia (what came is no media), OSError.
        """
        with path.open("wb") as file:
            if entry.init is not None:
                file.write(self.init(entry.init))
            begin = file.tell()
            if entry.key is None:
                self.fetcher.download(entry.media, file, max_bytes=MAX_SEGMENT_BYTES)
            else:
                self._open(entry.media, entry.key, entry.sequence, file)
        with path.open("rb") as file:
            file.seek(begin)
            head = file.read(8)
        if entry.init is not None or head[4:8] in BOXES:
            return begin
        if not head.startswith(_SYNC):
            raise UnreadableMedia(f"{entry.url}: what came is no media")
        return None

    def init(self, part: Part) -> bytes:
        """Return an initialisation section, decrypted; raises as `fetch`.

        Many sources name the key before it and leave it as it is.
        """
        found = self._keep(part, MAX_INIT_BYTES)
        if part.key is None or found[4:8] in _INIT_BOXES:
            return found
        into = io.BytesIO()
        opened = _Opened(into, self._fetch_key(part.key), part.key.iv or bytes(16))
        opened.write(found)
        opened.finish()
        return into.getvalue()

    def media(self, part: Part, *, key: Key | None, sequence: int) -> bytes:
        """Return a segment without its initialisation section, decrypted; raises as `fetch`."""
        into = io.BytesIO()
        if key is None:
            self.fetcher.download(part, into, max_bytes=MAX_SEGMENT_BYTES)
        else:
            self._open(part, key, sequence, into)
        return into.getvalue()

    def _open(self, part: Part, key: Key, sequence: int, into: BinaryIO) -> None:
        opened = _Opened(into, self._fetch_key(key), key.iv or sequence.to_bytes(16, "big"))
        self.fetcher.download(part, opened, max_bytes=MAX_SEGMENT_BYTES)
        opened.finish()

    def _fetch_key(self, key: Key) -> bytes:
        if key.method != "AES-128":
            raise NoStream(f"{key.url}: encrypted with {key.method}, which can't be recorded")
        found = self._keep(Part(url=key.url), _KEY_BYTES)
        if len(found) != _KEY_BYTES:
            raise UnreadableMedia(f"{key.url}: not a key of {_KEY_BYTES} bytes")
        return found

    def _keep(self, part: Part, max_bytes: int) -> bytes:
        if part not in self._kept:
            into = io.BytesIO()
            self.fetcher.download(part, into, max_bytes=max_bytes)
            self._kept[part] = into.getvalue()
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return self._kept[part]


class _Opened:
    """Writes what is written to it to a file, decrypted (AES-128-CBC, PKCS7)."""

    def __init__(self, file: BinaryIO, key: bytes, iv: bytes) -> None:
        self._file = file
        self._decryptor = Cipher(algorithms.AES128(key), modes.CBC(iv)).decryptor()
        self._padding = PKCS7(128).unpadder()

    def write(self, sealed: bytes) -> None:
        self._file.write(self._padding.update(self._decryptor.update(sealed)))

    def finish(self) -> None:
        """Write what is left; raises UnreadableMedia where the key does not fit."""
        try:
            self._file.write(self._padding.update(self._decryptor.finalize()))
            self._file.write(self._padding.finalize())
        except ValueError as e:
            raise UnreadableMedia(f"a segment can't be decrypted: {e}") from e
