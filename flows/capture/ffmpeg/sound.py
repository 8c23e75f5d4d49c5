"""Audio with a playlist of its own, recorded beside ffmpeg, which gets the pictures alone."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from flows.capture.hls.anchoring import Anchoring
from flows.capture.hls.audio import AudioRecorder
from flows.capture.hls.feed import Feed
from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.clock import Clock
from flows.capture.recorded.recording import Recording

OpenedEntries = Iterable[tuple[Entry, datetime]]


class SoundBeside:
    """Records the audio of one run of ffmpeg, on the clock of ffmpeg's files.

    waiting: pictures to be recorded first. All is called by the engine's thread.
    """

    def __init__(
        self,
        feed: Feed,
        anchoring: Anchoring,
        recording: Recording,
        *,
        language: str,
        waiting: Sequence[Entry],
    ) -> None:
        """Begin, if there is such audio."""
        self._feed, self._anchoring, self._recording = feed, anchoring, recording
        self._recorder = AudioRecorder(recording.directory, feed.fetcher, language=language)
        self._start: int | None = None
        self._knows_clock = True
        self._recorder.follow(feed, waiting=waiting)

    def lose_clock(self) -> None:
        """Take note that the source's timestamps jumped, by how much is unknown."""
        self._knows_clock = False

    def pictured(self, clock: Clock, opened: OpenedEntries, *, start: int | None) -> None:
        """Take note of the newest recorded file; without known timestamps it stays silent.

        clock: of the run. opened, start: as for `Anchoring.first_section`.
        """
        self._recorder.follow(self._feed, waiting=())
        extent, first = self._recording.extent, clock.first
        if not self._recorder.is_wanted or extent is None or first is None:
            return
        source = clock.input_at(extent.first)
        if source is None and self._knows_clock:
            if self._start is None:
                self._start = self._anchoring.first_keyframe(opened, start=start)
            source = None if self._start is None else self._start + extent.first - first
        if source is not None:
            self._recorder.pictured(self._recording.last, extent, later=extent.first - source)

    def close(self) -> None:
        """End once the last pictures have their audio; `AudioRecorder.close`."""
        self._recorder.close()
