"""Our own media sequence numbers for ffmpeg, as a source's may be wrong, and where it begins."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime

from flows.capture.hls.aligning import Alignment, first_after, known_of
from flows.capture.playlists.playlist import Entry, Playlist


class Numbers:
    """Counts the segments of one playlist; thread-safe.

    begin: the first segment to list, found by its address or else by its number; ignored where the
    first playlist does not list it.
    """

    def __init__(self, begin: Entry | None = None) -> None:
        """Begin without a playlist."""
        self.begin = begin
        self._begin_at: int | None = None
        self._lock = threading.Lock()
        self._alignment = Alignment()
        self._first, self._read_at = 0, 0.0
        self._end: datetime | None = None

    def of(self, playlist: Playlist) -> dict[Entry, int]:
        """Return the number of each entry to list.

        It stays the same for the same segment, as far as it is recognised. The first playlist keeps
        its own numbers.
        """
        entries = playlist.entries
        if not entries:
            return {}
        with self._lock:
            known = [known_of(entry) for entry in entries]
            since_s = time.monotonic() - self._read_at
            step_s = entries[-1].duration_s or 1.0
            shift = self._alignment.shift(known, since_s=since_s, step_s=step_s)
            if not len(self._alignment):
                self._first = playlist.sequence
            elif shift is None:  # other names and numbers: all of it follows, unless by its dates
                n_known = first_after(entries, self._end) or 0
                self._first = max(0, self._first + len(self._alignment) - n_known)
            else:
                self._first = max(0, self._first + shift)
            self._alignment.keep(known)
            self._end = entries[-1].end
            self._read_at = time.monotonic()
            if self._begin_at is None:
                self._begin_at = self._first + _place_of(self.begin, entries)
            begin = max(0, self._begin_at - self._first)
            # An older copy of the playlist may end before it.
            begin = 0 if begin >= len(entries) else begin
            return {entry: self._first + n for n, entry in enumerate(entries) if n >= begin}


def _place_of(begin: Entry | None, entries: Sequence[Entry]) -> int:
    if begin is None:
        return 0
    parts, numbers = [each.media for each in entries], [each.sequence for each in entries]
    if begin.media in parts:
        return parts.index(begin.media)
    return numbers.index(begin.sequence) if begin.sequence in numbers else 0
