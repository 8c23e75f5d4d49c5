"""Keeps a capture alive: one broadcast from its first segment to its end, in order."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from flows.capture.disk import MIN_FREE_BYTES, once_writable
from flows.capture.net.address import AddressPolicy
from flows.capture.processes import end_stale
from flows.capture.quality import Quality
from flows.capture.recorded.recording import Recording
from flows.capture.segment import (
    CaptureError,
    Gap,
    Segment,
)
from flows.capture.source.finding import Finding
from flows.capture.source.operator.access import Access
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.capture.supervisor.engines import Engine, Engines
from flows.capture.supervisor.handover import Handover
from flows.capture.supervisor.plan import Plan
from flows.capture.supervisor.progress import Progress
from flows.capture.supervisor.quota import Quota
from flows.capture.supervisor.recorder import Recorder

_log = logging.getLogger(__name__)

_STOP_S: Final = 10.0
"""Seconds that `stop` waits for the capture's thread. ffmpeg is killed before that."""

_RESOLVE_TIMEOUT_S: Final = 8.0


class Capture:
    """Records a live stream in a thread of its own, and yields what it recorded.

    url: the page or playlist. directory: of this broadcast alone; what a capture before this one
    left there is gone on from (its segments come from `recover`): numbers go on, nothing is
    recorded twice, and a gap says what is missing. after: the broadcast's last segment by the
    database, which another machine may have recorded: likewise. policy: what may be fetched.
    access: what the operator has set for the site, as it is when the stream is found again.
    quality: the most that is recorded.
    until: aware; when to stop. duration_s: how much to record, from the first segment on. Without
    both it goes on until the source ends. stream: what `resolve` gave for the URL, if that was
    asked already. stall_s: restart after so long without a segment, or
    twice the length that the source says its segments have. ended_after_s: for so long the
    source must say that it has ended. away_s: for so long, once there is a recording, it may be off
    air without its site saying that it is over, and come back. min_free_bytes: of the disk; with
    less, nothing is recorded. quota: beyond it, recording ends. engine: what records: "hls" for
    HLS sources alone, "ffmpeg" for any; "auto" takes the first that can. time_shifted: the source
    dates what is on air now hours earlier or later, and is right. language: of the audio, where it
    has playlists of its own; empty: as the source would have it.

    Any end of a run, and any stall, is followed by finding the stream anew and a restart, at
    first at once, then with growing pauses. What was missed is a Gap that says why.

    Use as a context manager; iterate, or call `get`. Iterating raises what ended the capture if
    that is an error, after all that was recorded. Nothing of it stays behind: not ffmpeg, not the
    thread. Entering raises CaptureFailed if another process records to the directory.
    """

    def __init__(
        self,
        url: str,
        *,
        directory: Path,
        channel: str,
        broadcast: int,
        policy: AddressPolicy,
        after: Segment | None = None,
        access: Callable[[], Access] = Access,
        quality: Quality | None = None,
        until: datetime | None = None,
        duration_s: float | None = None,
        segment_s: float = 2.0,
        stream: Stream | None = None,
        ffmpeg_path: str | os.PathLike[str] | None = None,
        stall_s: float = 15.0,
        ended_after_s: float = 15.0,
        away_s: float = 0.0,
        min_free_bytes: int = MIN_FREE_BYTES,
        quota: Quota | None = None,
        extractors: Sequence[type] = (),
        engine: Engine = "auto",
        time_shifted: bool = False,
        language: str = "",
    ) -> None:
        """Keep the arguments; nothing is started yet."""
        self.url, self.policy = url, policy
        self._directory, self._channel, self._broadcast = directory, channel, broadcast
        self._plan = Plan(until=until, duration_s=duration_s, grace_s=2 * stall_s)
        self._finding = Finding(
            lambda: resolve(
                url,
                policy=policy,
                access=access(),
                quality=quality,
                timeout_s=_RESOLVE_TIMEOUT_S,
                extractors=extractors,
                stopping=self._plan.stopping,
            ),
            stream=stream,
            ended_after_s=ended_after_s,
            away_s=away_s,
        )
        self._after = after
        self._engines = Engines(
            engine,
            policy=policy,
            ffmpeg_path=ffmpeg_path,
            segment_s=segment_s,
            quality=quality,
            time_shifted=time_shifted,
            language=language,
        )
        self._stall_s = stall_s
        self._min_free_bytes = min_free_bytes
        self._quota = quota or Quota()
        self._handover = Handover()
        self._thread: threading.Thread | None = None
        self._progress = Progress()
        self._recorder: Recorder | None = None

    def __enter__(self) -> Self:
        """Tidy up after an earlier capture, once the disk lets that be done, and begin."""
        self._plan.begin()
        over, pause = self._plan.is_over, self._plan.pause
        recording = once_writable(self._tidied, over=over, pause=pause)
        recording.go_on_after(self._after)
        if recording.last is not None:
            self._progress.why = "nothing was recording"
        self._quota.begin(self._directory)
        self._plan.begin()
        self._recorder = Recorder(
            self.url,
            recording=recording,
            policy=self.policy,
            finding=self._finding,
            engines=self._engines,
            plan=self._plan,
            progress=self._progress,
            handover=self._handover,
            quota=self._quota,
            stall_s=self._stall_s,
            min_free_bytes=self._min_free_bytes,
        )
        self._thread = threading.Thread(target=self._recorder.run, name=f"capture-{self._channel}")
        self._thread.daemon = True
        self._thread.start()
        return self

    def _tidied(self) -> Recording:
        """Return what is recorded, with what an earlier capture has left unfinished; idempotent."""
        self._directory.mkdir(parents=True, exist_ok=True)
        end_stale(self._directory / "ffmpeg.pid")
        recording = Recording(self._directory, channel=self._channel, broadcast=self._broadcast)
        recording.recover()
        return recording

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """End the recording and wait for it; what was finished can still be taken."""
        self._plan.stopping.set()
        if self._thread is None:
            return
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.error("%s: the capture does not stop; does its disk answer?", self._channel)
            self._handover.close()

    @property
    def last_error(self) -> CaptureError | None:
        """The last error, whether or not the capture went on."""
        return self._recorder.last_error if self._recorder else None

    @property
    def failure(self) -> CaptureError | None:
        """The error that ended the capture, if one did."""
        return self._recorder.failure if self._recorder else None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._handover.finished

    @property
    def newest_age_s(self) -> float | None:
        """Seconds since the newest segment was finished; None before the first."""
        return self._progress.newest_age_s

    @property
    def restarts(self) -> int:
        """How often a run was started again."""
        return self._progress.restarts

    @property
    def state(self) -> str:
        """Its state in a few words: "live, 412 segments, 0.7 s behind"."""
        return self._progress.state

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None if there is none within `timeout_s`, or no more."""
        return self._handover.get(timeout_s)

    def __iter__(self) -> Iterator[Segment | Gap]:
        """Yield segments and gaps until the capture has finished; raise what ended it."""
        while not self.finished:
            event = self.get(3600.0)
            if event is not None:
                yield event
        if self.failure is not None:
            raise self.failure
