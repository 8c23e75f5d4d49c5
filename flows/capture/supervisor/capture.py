"""A capture: records one broadcast from its first segment to its end, with restarts."""

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
from flows.capture.source.current_stream import CurrentStream
from flows.capture.source.operator.access import Access
from flows.capture.source.resolve import resolve
from flows.capture.stream import Stream
from flows.capture.supervisor.engines import Engine, Engines
from flows.capture.supervisor.event_queue import EventQueue
from flows.capture.supervisor.plan import Plan
from flows.capture.supervisor.progress import Progress
from flows.capture.supervisor.quota import Quota
from flows.capture.supervisor.recorder import Recorder

_log = logging.getLogger(__name__)

_STOP_S: Final = 10.0
"""Seconds that `stop` waits for the capture's thread. ffmpeg is killed before that."""

_RESOLVE_TIMEOUT_S: Final = 8.0


class Capture:
    """Records a live stream on its own thread, and yields segments and gaps.

    url: the page or playlist. directory: of this broadcast only; a recording that is there is
    continued (its segments come from `recover`): with its numbers, without repetitions, and with a
    gap for what is missing. after: the broadcast's last segment in the database, perhaps of another
    machine; continued likewise. policy: what may be fetched. access: returns the operator's
    settings for the site. quality: the upper bound. until: aware; when to stop. duration_s: how
    much to record, from the first segment; without both, until the source ends. stream: the result
    of `resolve` for the URL, if there is one. stall_s: restart after this time without a segment,
    or twice the longest segment that the source announces. ended_after_s: how long the source must
    state that it has ended. away_s: how long a recorded source may be off air without such a
    statement. min_free_bytes: of the disk; with less, nothing is recorded. quota: recording ends
    beyond it. engine: "hls" for HLS sources only, "ffmpeg" for any; "auto" takes the first that
    works. time_shifted: the source's dates are right though hours from now. language: of the audio,
    where it has playlists of its own; empty: the source's default.

    After the end of a run, or a stall, the stream is resolved again and recording restarted, with
    growing pauses. What was missed is a Gap with its reason.

    Use as a context manager; iterate, or call `get`. Iterating raises the error that ended the
    capture, after all segments. At exit ffmpeg and the thread have ended. Entering raises
    CaptureFailed if another process records to the directory.
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
        self._current = CurrentStream(
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
        self._queue = EventQueue()
        self._thread: threading.Thread | None = None
        self._progress = Progress()
        self._recorder: Recorder | None = None

    def __enter__(self) -> Self:
        """Recover an earlier capture's recording, once the disk can be written to, and begin."""
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
            current=self._current,
            engines=self._engines,
            plan=self._plan,
            progress=self._progress,
            queue=self._queue,
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
        """End the recording and wait for it; finished segments can still be taken."""
        self._plan.stopping.set()
        if self._thread is None:
            return
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.error("%s: the capture does not stop; does its disk answer?", self._channel)
            self._queue.close()

    @property
    def last_error(self) -> CaptureError | None:
        """The last error, even if the capture continued."""
        return self._recorder.last_error if self._recorder else None

    @property
    def failure(self) -> CaptureError | None:
        """The error that ended the capture, if one did."""
        return self._recorder.failure if self._recorder else None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._queue.finished

    @property
    def newest_age_s(self) -> float | None:
        """Seconds since the newest segment was finished; None before the first."""
        return self._progress.newest_age_s

    @property
    def restarts(self) -> int:
        """How many runs were restarts."""
        return self._progress.restarts

    @property
    def state(self) -> str:
        """The state, such as "live, 412 segments, 0.7 s behind"."""
        return self._progress.state

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None after `timeout_s`, or at the end."""
        return self._queue.get(timeout_s)

    def __iter__(self) -> Iterator[Segment | Gap]:
        """Yield segments and gaps until the capture has finished; raise the error that ended it."""
        while not self.finished:
            event = self.get(3600.0)
            if event is not None:
                yield event
        if self.failure is not None:
            raise self.failure
