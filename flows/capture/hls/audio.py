"""Audio that has a playlist of its own, recorded beside the pictures.

On a thread of its own, so that video never waits for audio, and is recorded if audio fails. Audio
is matched to pictures by timestamps, which all renditions of a source share (RFC 8216, 4.3.4.1);
dates are not needed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from flows.capture.hls.aligning import Alignment, known_of, name_of
from flows.capture.hls.feed import Feed
from flows.capture.hls.pacing import Pacing
from flows.capture.hls.pieces import Pieces
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.audio import END_S, FOLDER
from flows.capture.recorded.audio_measuring import measure_audio
from flows.capture.recorded.audio_placing import Placing
from flows.capture.recorded.media import Extent
from flows.capture.segment import (
    CaptureError,
    Segment,
    SourceUnreachable,
    UnreadableMedia,
    UnsafeURL,
)

_log = logging.getLogger(__name__)

_MAX_BYTES: Final = 8 << 20
"""Most bytes of a segment of audio: minutes of it."""

_MAX_MINUTE_BYTES: Final = 60 << 20
"""Most audio that is fetched within a minute: 8 Mbit/s, more than lossless audio takes."""

_LOOK_S: Final = 0.1
_MAX_TRIES: Final = 4
_MAX_QUEUED: Final = 500


@dataclass(kw_only=True, slots=True)
class _Listed:
    entry: Entry
    period: int
    tries: int = 0
    try_at: float = 0.0


class AudioRecorder:
    """Records the audio of one run of an engine, if that has a playlist of its own.

    directory: the broadcast's. language: see `choose_audio`. `follow`, `pictured`, `refused`
    and `close` are called by the engine's thread, and never block.
    """

    def __init__(self, directory: Path, fetcher: Fetcher, *, language: str) -> None:
        """Keep the arguments; there may be no such audio."""
        self._directory, self._language = directory, language
        self._fetcher = fetcher.twin()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._placing = Placing()
        self._of, self._url, self._wanted_since = "", "", 0.0
        self._pieces = Pieces(self._fetcher, max_bytes=_MAX_BYTES)
        self._alignment, self._seen = Alignment(), deque[str](maxlen=1000)
        self._queue: deque[_Listed] = deque(maxlen=_MAX_QUEUED)
        self._sizes = deque[tuple[float, int]]()
        self._pacing = Pacing()
        self._loaded_url, self._loaded_at, self._period = "", 0.0, 0
        self._numbers = count()
        self._failure: str | None = None
        self._end_at = float("inf")
        self._held_until = 0.0

    # -- called by the engine

    def follow(self, feed: Feed, *, waiting: Sequence[Entry]) -> None:
        """Record the audio that belongs to the playlist that is followed now.

        waiting: pictures to be recorded; the audio begins as many seconds ago.
        """
        if feed.url == self._of:
            return
        self._of = feed.url
        found = feed.audio(self._language)
        with self._lock:
            self._url = found.url if found else ""
            wanted_s = sum(entry.duration_s for entry in waiting)
            self._wanted_since = time.monotonic() - wanted_s
        if found is None:
            return
        _log.info("the audio has a playlist of its own: %s", found.language or found.name)
        if self._thread is None:
            with suppress(OSError):  # reported when something is written
                (self._directory / FOLDER).mkdir(exist_ok=True)
            self._thread = threading.Thread(target=self._run, name="capture-audio", daemon=True)
            self._thread.start()

    def pictured(self, segment: Segment | None, extent: Extent, *, later: int = 0) -> None:
        """Take note of a recorded file of pictures; for `later` see `Placing.pictured`."""
        self._placing.pictured(segment, extent, later=later)

    @property
    def is_wanted(self) -> bool:
        """Whether there is such audio."""
        return self._url != ""

    def refused(self, error: Exception) -> None:
        """Take note that the source did not answer: it may want to be left alone for a while."""
        pause_s = error.backoff_s if isinstance(error, SourceUnreachable) else 0.0
        with self._lock:
            self._held_until = max(self._held_until, time.monotonic() + pause_s)

    @property
    def error_text(self) -> str:
        """The last error since the last segment; empty if none."""
        return self._failure or ""

    def close(self) -> None:
        """End once the last pictures have their audio, or after END_S."""
        self._end_at = time.monotonic() + END_S

    # -- on its own thread

    def _run(self) -> None:
        try:
            with self._fetcher:
                while not self._is_over():
                    try:
                        self._step()
                    except UnsafeURL as e:
                        self._fail(e)
                        return
                    except (CaptureError, OSError) as e:
                        self._fail(e)
                    time.sleep(_LOOK_S)
        except Exception:  # noqa: BLE001 - a bug here costs no picture
            _log.exception("audio is no longer recorded: an internal error; video still is")
        finally:
            with suppress(OSError):
                self._placing.end()

    def _is_over(self) -> bool:
        if self._end_at == float("inf"):
            return False
        return self._placing.is_complete or time.monotonic() >= self._end_at

    def _step(self) -> None:
        self._placing.place()
        with self._lock:
            url, wanted_s = self._url, time.monotonic() - self._wanted_since
            is_held = time.monotonic() < self._held_until
        if url != self._loaded_url:
            self._loaded_url = url
            self._alignment = Alignment()
            self._queue.clear()
            self._pacing.hurry()
        if not url or is_held:
            return
        if time.monotonic() >= self._pacing.due_at:
            self._load(url, wanted_s)
        now = time.monotonic()
        due = next((each for each in self._queue if each.try_at <= now), None)
        if due is not None:
            while self._sizes and now - self._sizes[0][0] > 60:
                self._sizes.popleft()
            if sum(size for _, size in self._sizes) > _MAX_MINUTE_BYTES:
                raise SourceUnreachable(f"{url}: more than {_MAX_MINUTE_BYTES >> 20} MB a minute")
            self._fetch(due)

    def _load(self, url: str, wanted_s: float) -> None:
        asked_at = time.monotonic()
        try:
            playlist = self._fetcher.get_playlist(url)
        except CaptureError as e:
            self._pacing.failed(e)
            raise
        entries = playlist.entries
        self._pacing.target_s = max(0.5, playlist.target_s or 2.0)
        new = self._new_in(entries, wanted_s) if entries else ()
        if not new:
            self._pacing.stayed(asked_at)
            return
        self._pacing.last_s = new[-1].duration_s or self._pacing.target_s
        self._pacing.grew(asked_at)
        for entry in new:
            self._fetcher.check(url for url in (entry.url, entry.map_url) if url)
            self._period += entry.discontinuity
            if not entry.missing:
                self._queue.append(_Listed(entry=entry, period=self._period))

    def _new_in(self, entries: tuple[Entry, ...], wanted_s: float) -> tuple[Entry, ...]:
        known = [known_of(entry) for entry in entries]
        since_s = time.monotonic() - self._loaded_at
        step_s = entries[-1].duration_s or 1.0
        shift = self._alignment.shift(known, since_s=since_s, step_s=step_s)
        if shift is not None:
            new = entries[max(0, len(self._alignment) - shift) :]
        elif len(self._alignment):
            new = tuple(entry for entry in entries if name_of(entry) not in self._seen)
        else:
            new = _newest(entries, wanted_s)
        self._alignment.keep(known)
        self._seen += [name_of(entry) for entry in new]
        self._loaded_at = time.monotonic()
        return new

    def _fetch(self, due: _Listed) -> None:
        folder = self._directory / FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{threading.get_ident()}-{next(self._numbers)}.tmp"
        try:
            head_bytes = self._pieces.fetch(due.entry, path, period=due.period, audio=True)
            measured = measure_audio(path, fragmented=head_bytes is not None)
        except BaseException as e:
            path.unlink(missing_ok=True)
            if isinstance(e, UnreadableMedia):
                self._pieces.forget(due.entry)
            due.tries += 1
            due.try_at = time.monotonic() + min(0.2 * 2**due.tries, self._pacing.target_s)
            if due.tries >= _MAX_TRIES:
                self._queue.remove(due)
            raise
        self._queue.remove(due)
        self._sizes.append((time.monotonic(), path.stat().st_size))
        self._placing.add(path, measured)
        if self._failure is not None:
            _log.info("the audio is recorded again")
            self._failure = None

    def _fail(self, error: Exception) -> None:
        if self._failure is None and self._end_at == float("inf"):
            _log.warning("audio is not recorded for now, video is: %s", error)
        self._failure = str(error)
        self.refused(error)


def _newest(entries: tuple[Entry, ...], wanted_s: float) -> tuple[Entry, ...]:
    """Return the last entries that cover these seconds, and one more."""
    for n in range(1, len(entries) + 1):
        wanted_s -= entries[-n].duration_s
        if wanted_s <= 0:
            return entries[-n - 1 :]
    return entries
