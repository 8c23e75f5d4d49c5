"""How much of a playlist one run of ffmpeg can read: one container, one initialisation section.

ffmpeg keeps what it found in the first segment. What follows in another container gives nothing,
and pictures of another encoder would be recorded with the first one's parameters.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from flows.capture.hls.pieces import BOXES, Pieces
from flows.capture.playlists.playlist import Entry, Part
from flows.capture.segment import CaptureError, UnreadableMedia

_EBML: Final = b"\x1a\x45\xdf\xa3"  # RFC 8794, 8.1
_SYNC: Final = b"\x47"
_PACKET_BYTES: Final = 188  # ISO/IEC 13818-1, 2.4.3.2


class Sections:
    """Ends the playlist of a run before the first segment that needs another run."""

    def __init__(self) -> None:
        """Begin without a segment."""
        self._boxes = False
        self._before: Entry | None = None
        self._head = b""
        self._numbers: Mapping[Entry, int] = {}
        self._seen: int | None = None
        self._end: int | None = None

    def cut(
        self, entries: Sequence[Entry], numbers: Mapping[Entry, int], pieces: Pieces
    ) -> tuple[tuple[Entry, ...], bool]:
        """Return the entries that this run can read, and whether others follow them.

        numbers: of the entries. What can't be fetched is left out, and tried the next time. Raises
        CaptureError for the first one's initialisation section.
        """
        self._numbers = numbers
        found: list[Entry] = []
        ends = False
        for entry in entries:
            number = numbers.get(entry, entry.sequence)
            if self._seen is None or number > self._seen:
                try:
                    fits = self._fits(entry, pieces)
                except CaptureError:
                    if self._seen is None:
                        raise
                    break
                if not fits:
                    self._end = min(number, self._end or number)
                self._seen, self._before = number, entry
            if ends := self._end is not None and number >= self._end:
                break
            is_bare = has_boxes(entry) and not self._boxes
            found.append(replace(entry, init=None) if is_bare else entry)
        return tuple(found), ends

    def refuse(self, entry: Entry) -> None:
        """End before a segment that was found to be in another container than expected."""
        number = self._numbers.get(entry)
        if number is not None:
            self._end = min(number, self._end or number)

    def _fits(self, entry: Entry, pieces: Pieces) -> bool:
        before = self._before
        boxes = has_boxes(entry)
        if before is not None and entry.init == before.init and not entry.discontinuity:
            return True
        # An EXT-X-MAP goes on until the next one, also where MPEG-TS follows.
        boxes = boxes and not _is_stream(entry, pieces)
        if before is None:
            self._boxes = boxes
            self._head = pieces.renewed_init(entry) if boxes else b""
            return True
        return boxes is self._boxes and (not boxes or pieces.renewed_init(entry) == self._head)


def has_boxes(entry: Entry) -> bool:
    """Return whether a segment is fMP4 by its playlist; MPEG-TS may have its tables apart."""
    url = entry.map_url
    return url is not None and PurePosixPath(urlsplit(url).path).suffix.lower() != ".ts"


def require_media(body: bytes, *, url: str) -> None:
    """Raise UnreadableMedia for a body that ffmpeg might not take for MPEG-TS, fMP4 or WebM."""
    # A box size that begins with a zero byte can't be the beginning of a text file.
    is_boxes = body.startswith(_EBML) or (body[:1] == b"\0" and body[4:8] in BOXES)
    if not (is_boxes or body.startswith(b"\x47")):
        raise UnreadableMedia(f"{url}: the response is not media")


def _is_stream(entry: Entry, pieces: Pieces) -> bool:
    """Return whether a segment begins like MPEG-TS; False where that can't be known."""
    if entry.key is not None:
        return False
    n_bytes = min(entry.media.length or 2 * _PACKET_BYTES, 2 * _PACKET_BYTES)
    head = io.BytesIO()
    part = Part(url=entry.url, offset=entry.media.offset, length=n_bytes)
    try:
        pieces.fetcher.download(part, head, max_bytes=n_bytes)
    except CaptureError:
        return False
    return head.getvalue()[::_PACKET_BYTES] == 2 * _SYNC
