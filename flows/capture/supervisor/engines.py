"""Chooses the engine that records a stream: HLS (keeps the source's segments) or ffmpeg."""

import logging
import os
import time
from dataclasses import replace
from typing import Final, Literal, Protocol

from flows.capture.ffmpeg import engine as ffmpeg
from flows.capture.ffmpeg.inputs import open_input
from flows.capture.ffmpeg.sound import SoundBeside
from flows.capture.hls import engine as hls
from flows.capture.hls.anchoring import Anchoring
from flows.capture.hls.feed import Feed
from flows.capture.hls.pacing import Pacing
from flows.capture.net.address import AddressPolicy
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Entry
from flows.capture.processes import find_ffmpeg
from flows.capture.quality import Quality
from flows.capture.recorded.recording import Recording
from flows.capture.segment import CaptureFailed, Gap, NotLive, Segment, SourceUnreachable
from flows.capture.stream import Stream
from flows.capture.waits import WaitLimit

_log = logging.getLogger(__name__)

_FALLBACK_S: Final = 600.0
"""Seconds after which an engine that could not read a stream is tried again."""

_HELD_UP_S: Final = 15.0
"""Seconds that ffmpeg retries a failing segment before it may skip it."""

Engine = Literal["auto", "hls", "ffmpeg"]


class EngineRun(Protocol):
    """A run of an engine, of `capture.hls` or `capture.ffmpeg`."""

    @property
    def ended(self) -> str | None:
        """Why the run has ended; None while it runs."""

    @property
    def error_text(self) -> str:
        """The last error; empty if none."""

    @property
    def outage(self) -> str | None:
        """Why it is not recording now, if known."""

    @property
    def unreadable(self) -> str | None:
        """Why it can't read the stream; None while it can, or nothing arrives."""

    @property
    def step_s(self) -> float:
        """The longest segment that the source announces, in seconds; 0 if unknown."""

    @property
    def pause_s(self) -> float:
        """Seconds until the next call of `poll` has something to do, if known; else infinite."""

    def poll(self, *, why: str | None = None) -> list[Segment | Gap]:
        """Return the segments and gaps since the last call; why: reason of a gap before them."""

    def finish(self, *, why: str | None = None, stalled: bool = False) -> list[Segment | Gap]:
        """End it, and return the remaining segments and gaps."""


class Engines:
    """Starts the engine that suits a stream.

    engine: "hls" for HLS sources only, "ffmpeg" for any; "auto" takes the first that works.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        policy: AddressPolicy,
        ffmpeg_path: str | os.PathLike[str] | None,
        segment_s: float,
        quality: Quality | None = None,
        time_shifted: bool = False,
        language: str = "",
    ) -> None:
        """Find ffmpeg, for any engine; raises CaptureFailed."""
        self._engine, self._policy, self._segment_s = engine, policy, segment_s
        self._time_shifted, self._language = time_shifted, language
        self._quality, self._pacing = quality or Quality(), Pacing()
        self._ffmpeg = find_ffmpeg(ffmpeg_path)
        self._instead: str | None = None
        self._instead_until = 0.0
        self._began_at = 0.0
        self._stuck_at: Segment | None = None
        self._stuck_since = time.monotonic()

    def start(
        self, stream: Stream, recording: Recording, fetcher: Fetcher, *, ended_after_s: float
    ) -> EngineRun:
        """Begin to record; raises CaptureError.

        ended_after_s: seconds for which an HLS source must state that it has ended.
        """
        if recording.last is None:
            # Where a run brings nothing, the next one begins where it began.
            if self._began_at:
                stream = replace(stream, off_air_at=self._began_at)
            self._began_at = stream.off_air_at or time.monotonic()
        if stream.protocol == "hls" and self._choose() == "hls":
            return hls.HlsRun(
                stream,
                recording,
                fetcher,
                ended_after_s=ended_after_s,
                quality=self._quality,
                pacing=self._pacing,
                time_shifted=self._time_shifted,
                language=self._language,
            )
        if self._engine == "hls":
            raise CaptureFailed(f"{stream.page_url}: not HLS; set the engine to auto or ffmpeg")
        if (left_s := stream.retry_at - time.monotonic()) > 0:
            why = f"{stream.page_url}: the source allows the next request in {left_s:.0f} s"
            raise SourceUnreachable(why, retry_after_s=left_s)
        anchoring = Anchoring(
            fetcher,
            recording,
            time_shifted=self._time_shifted,
            off_air_at=stream.off_air_at,
        )
        feed = Feed(stream, fetcher, self._quality) if stream.protocol == "hls" else None
        waiting, step_s = self._look_before(stream, anchoring, feed)
        now = time.monotonic()
        if self._stuck_at is not recording.last:
            self._stuck_at, self._stuck_since = recording.last, now
        source_input = open_input(
            stream,
            self._policy,
            begin=waiting[0] if waiting else None,
            feed=feed,
            wait_limit=WaitLimit(fetcher.stopping),
            quality=self._quality,
        )
        sound: SoundBeside | None = None
        try:
            if feed is not None:
                sound = SoundBeside(
                    feed, anchoring, recording, language=self._language, waiting=waiting
                )
            return ffmpeg.FfmpegRun(
                stream,
                recording,
                anchoring,
                source_input,
                ffmpeg_path=self._ffmpeg,
                segment_s=self._segment_s,
                step_s=step_s,
                may_skip=now - self._stuck_since > _HELD_UP_S,
                sound=sound,
            )
        except BaseException:
            source_input.close()
            if sound is not None:
                sound.close()
            raise

    def gives_up(self, run: EngineRun) -> bool:
        """Return whether to end a run because another engine may read the stream."""
        return self._engine == "auto" and run.unreadable is not None

    def judge(self, stream: Stream, run: EngineRun, *, brought: bool) -> None:
        """Note how a run ended; "auto" then avoids an engine that can't read the stream."""
        if self._engine != "auto" or stream.protocol != "hls":
            return
        if isinstance(run, hls.HlsRun):
            if run.unreadable is not None:
                self._instead = run.unreadable
                self._instead_until = time.monotonic() + _FALLBACK_S
                _log.warning("switching to ffmpeg: %s", run.unreadable)
        elif not brought:
            self._instead = None

    @property
    def summary(self) -> str:
        """Why ffmpeg records in place of our engine; empty if it does not."""
        return f"by ffmpeg, since {self._instead}" if self._choose() != self._first else ""

    @property
    def _first(self) -> Literal["hls", "ffmpeg"]:
        return "ffmpeg" if self._engine == "ffmpeg" else "hls"

    def _choose(self) -> Literal["hls", "ffmpeg"]:
        if self._instead is not None and time.monotonic() < self._instead_until:
            return "ffmpeg"
        return self._first

    def _look_before(
        self, stream: Stream, anchoring: Anchoring, feed: Feed | None
    ) -> tuple[tuple[Entry, ...], float]:
        """Check the playlist's URLs for ffmpeg; return what to read, and the target duration.

        It begins with the newest segment, or with the first that was missed and is still listed.
        Raises CaptureError.
        """
        if feed is None:
            return (), 0.0
        playlist = feed.load()
        feed.fetcher.check(playlist.urls)
        feed.begin_again()
        if playlist.ended:
            raise NotLive(f"{stream.page_url}: the stream has ended", over=True)
        n_missed = anchoring.n_missed(playlist.entries)
        return playlist.entries[-max(1, n_missed) :], playlist.target_s
