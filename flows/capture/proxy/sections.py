"""How much of a playlist one run of ffmpeg can read: one container, one initialisation section.

ffmpeg keeps what it found in the first segment. What follows in another container gives nothing,
and pictures of another encoder would be recorded with the first one's parameters.
"""

import io
import math
import time
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
_PARAMETERS: Final = (b"avcC", b"hvcC", b"av1C", b"vpcC")
"""The boxes with what a decoder must know (of H.264: ISO/IEC 14496-15, 5.4.2)."""

_LOOK_S: Final = 5.0


class Sections:
    """Ends the playlist of a run before the first segment that needs another run.

    look_s: seconds before an initialisation section is fetched again, for it may have changed
    though nothing in the playlist says so.
    """

    def __init__(self, *, look_s: float = _LOOK_S) -> None:
        """Begin without a segment."""
        self._look_s, self._look_at = look_s, 0.0
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
            is_named = entry.names_init and not before.names_init
            return not (self._boxes and self._has_changed(entry, pieces, at_once=is_named))
        # An EXT-X-MAP goes on until the next one, also where MPEG-TS follows.
        boxes = boxes and not _is_stream(entry, pieces)
        if before is None:
            self._boxes = boxes
            self._head = pieces.renewed_init(entry) if boxes else b""
            self._look_at = time.monotonic() + self._look_s
            return True
        return boxes is self._boxes and (not boxes or pieces.renewed_init(entry) == self._head)

    def _has_changed(self, entry: Entry, pieces: Pieces, *, at_once: bool) -> bool:
        """Return whether an initialisation section at the same address has other parameters."""
        now = time.monotonic()
        if entry.key is not None or not (at_once or now >= self._look_at):
            return False
        self._look_at = now + self._look_s
        try:
            found = _parameters_of(pieces.renewed_init(entry))
        except CaptureError:
            self._look_at = math.inf  # its address may have expired
            return False
        return any(found) and found != _parameters_of(self._head)


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


def _parameters_of(init: bytes) -> list[bytes]:
    """Return the parameters of the pictures; other bytes may differ with each answer."""
    found = []
    for kind in _PARAMETERS:
        before, _, after = init.partition(kind)
        found.append(after[: max(0, int.from_bytes(before[-4:], "big") - 8)])
    return found


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
