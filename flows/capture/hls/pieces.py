"""One HLS segment fetched, decrypted and written as a file that can be opened on its own."""

import binascii
import io
import re
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Entry, Key, Part
from flows.capture.segment import NoStream, UnreadableMedia

MAX_SEGMENT_BYTES: Final = 64 * 1024 * 1024
MAX_INIT_BYTES: Final = 1024 * 1024
_MAX_KEPT: Final = 8
_RENEW_S: Final = 5.0
"""Seconds before an unchanged initialisation section is fetched again."""

_KEY_BYTES: Final = 16  # RFC 8216, 4.3.2.4
_MAX_KEY_BYTES: Final = 1024
_BLOCK_BYTES: Final = 16

_SYNC: Final = b"\x47"  # ISO/IEC 13818-1, 2.4.3.2
_INIT_BOXES: Final = (b"ftyp", b"moov")
BOXES: Final = (b"styp", b"moof", b"sidx", b"ftyp", b"emsg", b"prft")
"""The boxes that fMP4 segments and initialisation sections begin with (ISO/IEC 14496-12, 4.2)."""

_PACKED: Final = (b"ID3", b"\xff", b"\x0b\x77")
"""What packed audio begins with: its timestamp, or at once ADTS, MPEG or AC-3."""

_PACKET_BYTES: Final = 188
_PACKETS: Final = re.compile(b"\x47(?=.{187}\x47.{187}\x47.{187}\x47)", re.DOTALL)
_MAX_BEFORE_BYTES: Final = 2 * 1024 * 1024
_STEP_BYTES: Final = 1024 * 1024


class Pieces:
    """Fetches segments; keeps the newest initialisation sections and keys.

    max_bytes: of a segment.
    """

    def __init__(self, fetcher: Fetcher, *, max_bytes: int = MAX_SEGMENT_BYTES) -> None:
        """Keep the arguments; nothing is fetched yet."""
        self.fetcher, self._max_bytes = fetcher, max_bytes
        self._kept: OrderedDict[tuple[Part, int], bytes] = OrderedDict()
        self._renewed_at = -_RENEW_S

    def fetch(
        self, entry: Entry, path: Path, *, period: int = 0, audio: bool = False
    ) -> int | None:
        """Write a segment, after its initialisation section if it has one.

        period: counts where what is at the section's address may be another. audio: it may be
        packed audio, too (RFC 8216, 3.4). Returns how long that section is; None for MPEG-TS, whose
        tables may be given like one, and for packed audio.
        Raises UnsafeURL, SourceUnreachable, NoStream (too much of it, or a cipher that is not
        AES-128), UnreadableMedia (what came is no media), OSError.
        """
        is_tables, is_header = False, True
        with path.open("wb") as file:
            if entry.init is not None:
                head = self._init_of(entry, period)
                is_header = _is_init(head) or b"moov" in head
                is_tables = head.startswith(_SYNC)
                file.write(head)
            begin = file.tell()
            if entry.key is None:
                self.fetcher.download(entry.media, file, max_bytes=self._max_bytes)
            else:
                self._open(entry.media, entry.key, entry.sequence, file)
        _cut_before(path, begin, packed=audio)
        if begin and not is_tables and _drop_head(path, begin):
            return None
        with path.open("rb") as file:
            file.seek(begin)
            head = file.read(8)
        if entry.init is not None and not is_header:
            raise UnreadableMedia(f"{entry.init.url}: what came is no header of fMP4 (EXT-X-MAP)")
        if entry.init is None and head[4:8] in BOXES and not _has_header(path):
            raise UnreadableMedia(f"{entry.url}: fMP4 without a header, and no EXT-X-MAP names one")
        if (entry.init is not None and not is_tables) or head[4:8] in BOXES:
            return begin
        if not head.startswith(_SYNC) and not (audio and head.startswith(_PACKED)):
            raise UnreadableMedia(f"{entry.url}: what came is no media")
        return None

    def forget(self, entry: Entry) -> None:
        """Have a segment's initialisation section and key fetched again: they may have changed."""
        key = entry.key and Part(url=entry.key.url)
        for kept in [kept for kept in self._kept if kept[0] in (entry.init, key)]:
            del self._kept[kept]

    def renew(self, entry: Entry, *, period: int) -> bool:
        """Fetch a segment's initialisation section again; return whether it has changed.

        Raises as `fetch`. If unchanged, not again for _RENEW_S: the source may be damaged.
        """
        now = time.monotonic()
        if entry.init is None or now - self._renewed_at < _RENEW_S:
            return False
        self._renewed_at = now
        before = self._kept.pop((entry.init, period), None)
        is_other = self._keep(entry.init, MAX_INIT_BYTES, period) != before
        if is_other:
            self._renewed_at = -_RENEW_S
        return is_other

    def init(self, part: Part) -> bytes:
        """Return an initialisation section, decrypted; raises as `fetch`."""
        return self._decrypted_init(self._keep(part, MAX_INIT_BYTES, 0), [part.key], bytes(16))

    def renewed_init(self, entry: Entry) -> bytes:
        """Return a segment's initialisation section, fetched anew; raises as `fetch`."""
        assert entry.init is not None
        self.forget(entry)
        return self.init(entry.init)

    def _init_of(self, entry: Entry, period: int) -> bytes:
        assert entry.init is not None
        found = self._keep(entry.init, MAX_INIT_BYTES, period)
        number = entry.sequence.to_bytes(16, "big")
        return self._decrypted_init(found, [entry.init.key, entry.key], number)

    def _decrypted_init(self, found: bytes, keys: list[Key | None], number: bytes) -> bytes:
        """Return an initialisation section, decrypted.

        Many sources name the key before it but do not encrypt it; others name the key after it, or
        no IV, which is then 0 or the segment's number.
        """
        if not any(keys):
            at = None if _is_init(found) else _media_in(found)
            return found if at is None else found[at:]
        if _is_init(found):
            return found
        error: UnreadableMedia | None = None
        for key in filter(None, dict.fromkeys(keys)):
            for iv in dict.fromkeys([key.iv or bytes(16), number]):
                into = io.BytesIO()
                decrypting = _Decrypting(into, self._fetch_key(key), iv)
                try:
                    decrypting.write(found)
                    decrypting.finish()
                except UnreadableMedia as e:
                    error = e
                    continue
                if _is_init(into.getvalue()):
                    return into.getvalue()
        if error is not None:
            raise error
        return found

    def media(self, part: Part, *, key: Key | None, sequence: int) -> bytes:
        """Return a segment without its initialisation section, decrypted; raises as `fetch`."""
        into = io.BytesIO()
        if key is None:
            self.fetcher.download(part, into, max_bytes=self._max_bytes)
        else:
            self._open(part, key, sequence, into)
        data = into.getvalue()
        at = None if _is_stream(data) or data[4:8] in BOXES else _media_in(data)
        return data if at is None else data[at:]

    def _open(self, part: Part, key: Key, sequence: int, into: BinaryIO) -> None:
        decrypting = _Decrypting(into, self._fetch_key(key), key.iv or sequence.to_bytes(16, "big"))
        self.fetcher.download(part, decrypting, max_bytes=self._max_bytes)
        decrypting.finish()

    def _fetch_key(self, key: Key) -> bytes:
        if key.method != "AES-128":
            raise NoStream(f"{key.url}: encrypted with {key.method}, which can't be recorded")
        found = key_in(self._keep(Part(url=key.url), _MAX_KEY_BYTES, 0))
        if found is None:
            raise UnreadableMedia(f"{key.url}: not a key of {_KEY_BYTES} bytes")
        return found

    def _keep(self, part: Part, max_bytes: int, period: int) -> bytes:
        place = (part, period)
        if place not in self._kept:
            into = io.BytesIO()
            self.fetcher.download(part, into, max_bytes=max_bytes)
            self._kept[place] = into.getvalue()
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return self._kept[place]


def key_in(answer: bytes) -> bytes | None:
    """Return the key in a key server's answer; None if there is none.

    Some answer in hexadecimal or base64, or with a line's end after it.
    """
    if len(answer) == _KEY_BYTES:
        return answer
    text = answer.strip()
    if len(text) == _KEY_BYTES:
        return text
    for read in (binascii.unhexlify, binascii.a2b_base64):
        with suppress(binascii.Error):
            found = read(text)
            if len(found) == _KEY_BYTES:
                return found
    return None


def _has_header(path: Path) -> bool:
    """Return whether a file has a movie header before its media (ISO/IEC 14496-12, 8.2.1)."""
    with path.open("rb") as file:
        return b"moov" in file.read(MAX_INIT_BYTES).partition(b"mdat")[0]


def _is_init(data: bytes) -> bool:
    return data[4:8] in _INIT_BOXES or data.startswith(_SYNC)


def _cut_before(path: Path, begin: int, *, packed: bool) -> None:
    """Remove what precedes a segment's media: a picture, a tag, the end of a packet.

    packed: it may be packed audio, too.
    """
    with path.open("r+b") as file:
        file.seek(begin)
        head = file.read(_PACKET_BYTES + 1)
        if _is_stream(head) or head[4:8] in BOXES or (packed and head.startswith(_PACKED)):
            return
        at = _media_in(head + file.read(_MAX_BEFORE_BYTES))
        if at is None:
            return
        _shift(file, begin + at, begin)


def _drop_head(path: Path, begin: int) -> bool:
    """Remove fMP4's initialisation section before MPEG-TS: no tag of the playlist ends it."""
    with path.open("r+b") as file:
        file.seek(begin)
        if file.read(_PACKET_BYTES + 1)[::_PACKET_BYTES] != 2 * _SYNC:
            return False
        _shift(file, begin, 0)
    return True


def _shift(file: BinaryIO, source: int, target: int) -> None:
    """Move a file's bytes from an offset on to a smaller offset."""
    size = file.seek(0, io.SEEK_END) - source
    for done in range(0, size, _STEP_BYTES):
        file.seek(source + done)
        data = file.read(_STEP_BYTES)
        file.seek(target + done)
        file.write(data)
    file.truncate(target + size)


def _is_stream(data: bytes) -> bool:
    packet = data[: _PACKET_BYTES + 1]
    return packet.startswith(_SYNC) and packet[_PACKET_BYTES:] in (b"", _SYNC)


def _media_in(data: bytes) -> int | None:
    """Return where packets of MPEG-TS begin, or boxes of fMP4; None if nowhere."""
    end = min(len(data), _MAX_BEFORE_BYTES)
    if packets := _PACKETS.search(data, 1):
        return packets.start()
    places = [data.find(kind, 5, end) for kind in (b"styp", b"moof", b"ftyp")]
    found = [place - 4 for place in places if place > 0]
    return min(found, default=None)


class _Decrypting:
    """A writer that decrypts into a file (AES-128-CBC, PKCS7).

    Padding that is missing or wrong is kept, and bytes after the last whole block are left out, as
    players do: some packagers pad otherwise. With a wrong key, what comes out is no media.
    """

    def __init__(self, file: BinaryIO, key: bytes, iv: bytes) -> None:
        # Imported here: some megabytes, for streams that are encrypted.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._file = file
        self._decryptor = Cipher(algorithms.AES128(key), modes.CBC(iv)).decryptor()
        self._last = b""

    def write(self, encrypted: bytes) -> None:
        found = self._last + self._decryptor.update(encrypted)
        self._file.write(memoryview(found)[:-_BLOCK_BYTES])
        self._last = found[-_BLOCK_BYTES:]

    def finish(self) -> None:
        """Write what is left; raises UnreadableMedia where there is not one block."""
        if not self._last:
            raise UnreadableMedia("a segment can't be decrypted: it is shorter than a block")
        n = self._last[-1]
        is_padded = 0 < n <= _BLOCK_BYTES and self._last.endswith(bytes([n]) * n)
        self._file.write(self._last[:-n] if is_padded else self._last)
