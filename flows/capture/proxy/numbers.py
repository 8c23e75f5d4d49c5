"""Our own media sequence numbers for ffmpeg, as a source's may be wrong."""

import threading
import time

from flows.capture.hls.aligning import Alignment, known_of
from flows.capture.playlists.playlist import Entry, Playlist


class Numbers:
    """Counts the segments of one playlist; thread-safe."""

    def __init__(self) -> None:
        """Begin without a playlist."""
        self._lock = threading.Lock()
        self._alignment = Alignment()
        self._first, self._read_at = 0, 0.0

    def of(self, playlist: Playlist) -> dict[Entry, int]:
        """Return each entry's number: the same for the same segment, as far as it is recognised.

        The first playlist keeps its own numbers.
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
            elif shift is None:  # nothing in common: all of it follows
                self._first += len(self._alignment)
            else:
                self._first = max(0, self._first + shift)
            self._alignment.keep(known)
            self._read_at = time.monotonic()
            return {entry: self._first + n for n, entry in enumerate(entries)}
