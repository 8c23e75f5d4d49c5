"""Records one broadcast, run after run, until it is over: the thread of a capture."""

import logging
import random
import time
from datetime import timedelta
from typing import Final

from flows.capture.disk import is_temporary, require_space
from flows.capture.net.address import AddressPolicy
from flows.capture.net.for_stream import fetcher_for
from flows.capture.recorded.recording import MIN_GAP, Recording
from flows.capture.segment import (
    CaptureError,
    CaptureFailed,
    DiskFull,
    Gap,
    NotLive,
    NotWatchable,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source.current_stream import CurrentStream, expires
from flows.capture.stream import Stream
from flows.capture.supervisor.engines import Engines
from flows.capture.supervisor.event_queue import EventQueue
from flows.capture.supervisor.plan import Plan
from flows.capture.supervisor.progress import Progress
from flows.capture.supervisor.quota import Quota, QuotaExceeded
from flows.capture.supervisor.suspension import SuspensionDetector
from flows.capture.waits import Stopped

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.04
"""Most seconds between two polls of a run: the longest delay until a finished segment is found."""

_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 5.0

_FALSE_STARTS: Final = 3
"""Runs without any recorded segment after which a stream is given up."""

_STEPS: Final = 2.0
"""Longest announced segments that a source may take before it counts as stalled."""


_MAX_STEP_S: Final = 60.0
"""Limit of an announced segment length in seconds: else such a source would never stall."""


class Recorder:
    """Resolves the stream, runs an engine, and repeats that whenever a run ends.

    Run by one thread, which writes `last_error` and `failure`; any thread may read them. For the
    arguments see `Capture`.
    """

    def __init__(
        self,
        url: str,
        *,
        recording: Recording,
        policy: AddressPolicy,
        current: CurrentStream,
        engines: Engines,
        plan: Plan,
        progress: Progress,
        queue: EventQueue,
        quota: Quota,
        stall_s: float,
        min_free_bytes: int,
    ) -> None:
        """Treat the recording's present events as reported; nothing is recorded yet."""
        self._url, self._recording, self._policy = url, recording, policy
        self._current, self._engines, self._plan = current, engines, plan
        self._progress, self._queue, self._quota = progress, queue, quota
        self._stall_s, self._min_free_bytes = stall_s, min_free_bytes
        self._has_run = False
        self._resumed_at = 0.0
        self._n_reported = len(recording.events)
        self.last_error: CaptureError | None = None
        """The last error, even if the capture continued."""
        self.failure: CaptureError | None = None
        """The error that ended the capture, if one did."""

    def run(self) -> None:
        """Record until the end; an error that ends it is kept in `failure`."""
        expected = False
        try:
            self._record()
            expected = True
        except CaptureError as e:
            self.failure = self.last_error = e
            expected = True
        except OSError as e:
            self.failure = self.last_error = CaptureFailed(f"{self._url}: {e}")
            expected = True
        finally:
            if not expected:
                self.failure = CaptureFailed(f"{self._url}: the capture crashed; see the log")
            self._recording.close()
            self._progress.over = True
            self._queue.close()

    def _record(self) -> None:
        pause_s, runs = _BACKOFF_S, 0
        while not self._plan.is_over(self._recording):
            began = time.monotonic()
            stays, backoff_s = False, 0.0
            try:
                require_space(self._recording.directory, self._min_free_bytes)
                stream = self._current.find(
                    recorded=self._recording.last is not None, note=self._note
                )
                runs += 1
                if self._record_run(stream):
                    pause_s = _BACKOFF_S
                    self._current.is_live()
            except Stopped:
                break
            except (UnsafeURL, QuotaExceeded):
                raise
            except NotWatchable as e:
                if self._recording.last is None:
                    raise
                self._note(e)
            except NotLive as e:
                if self._recording.last is None:
                    raise
                if self._current.is_final(e, since=began):
                    self.last_error = e
                    return
                self._note(e)
            except CaptureError as e:
                if self._current.known is None:
                    raise
                self._note(e)
                stays = isinstance(e, DiskFull)
                backoff_s = e.backoff_s if isinstance(e, SourceUnreachable) else 0.0
            except OSError as e:
                if not is_temporary(e):
                    raise
                self._note(DiskFull(f"{self._recording.directory}: {e.strerror}; check the disk"))
                stays = True
            except Exception as e:  # noqa: BLE001 - a bug ends a run, and not the watch
                _log.exception("%s: an internal error ended a run", self._recording.channel)
                name = type(e).__name__
                self._note(CaptureFailed(f"{self._url}: an internal error ({name}); see the log"))
            if not stays:
                self._current.forget()
            if self._recording.last is None and runs >= _FALSE_STARTS:
                raise CaptureFailed(f"{self._url}: nothing could be recorded: {self._progress.why}")
            if time.monotonic() - began > _MAX_BACKOFF_S:
                pause_s = _BACKOFF_S
            # With jitter, so that many captures of one source do not retry at the same time.
            wait_s = max(backoff_s, pause_s * random.uniform(0.5, 1.0))
            self._plan.pause(wait_s, self._recording)
            pause_s = min(2 * pause_s, _MAX_BACKOFF_S)
        self._close_with_gap()
        if (
            self._recording.last is None
            and self.last_error is not None
            and not self._plan.stopping.is_set()
        ):
            raise self.last_error

    def _record_run(self, stream: Stream) -> bool:
        """Record until something ends the run; return whether it recorded anything."""
        began = time.monotonic()
        brought = False
        stopping = self._plan.stopping
        with (
            fetcher_for(stream, self._policy, stopping=stopping) as fetcher,
            SuspensionDetector() as detector,
        ):
            # Files that an earlier run could not add to the journal, on a full disk.
            self._recording.recover()
            self._report()
            run = self._engines.start(
                stream,
                self._recording,
                fetcher,
                ended_after_s=self._current.ended_after_s,
            )
            self._progress.by = self._engines.summary
            self._progress.restarts += self._has_run
            self._has_run = True
            why: str | None = None
            stalled = False
            try:
                while why is None and not self._plan.is_over(self._recording):
                    self._note_missed(detector)
                    run.poll(why=self._progress.why)
                    brought |= self._report()
                    self._note_missed(detector)
                    limit_s = max(self._stall_s, _STEPS * min(run.step_s, _MAX_STEP_S))
                    if stalled := self._quiet_s(began) > limit_s:
                        why = f"no segment for {limit_s:g} s"
                    elif self._engines.gives_up(run):
                        why = run.unreadable
                    elif expires(stream, since=began):
                        why = "the stream's address expires"
                    elif (why := run.ended) is None:
                        self._plan.stopping.wait(min(_POLL_S, run.pause_s))
                        require_space(self._recording.directory, self._min_free_bytes)
            finally:
                outage = run.outage
                try:
                    run.finish(why=self._progress.why, stalled=stalled)
                finally:
                    brought |= self._report()
                    self._progress.why = self._progress.why or outage
        self._engines.judge(stream, run, brought=brought)
        if why is not None:
            error = f": {run.error_text}" if run.error_text else ""
            self._note(SourceUnreachable(f"{why}{error}"))
        return brought

    def _note_missed(self, detector: SuspensionDetector) -> None:
        """Note a suspension of this process, so that it is not taken for a stall of the source."""
        if missed_s := detector.take_missed_s():
            why = f"this process did not run for {missed_s:.0f} s"
            _log.warning("%s: %s", self._recording.channel, why)
            self._progress.why = why
            self._resumed_at = detector.resumed_at

    def _report(self) -> bool:
        """Pass recorded events on; return whether there were any.

        Called also after an error, as events in the journal are reported in no other way.
        """
        events = self._recording.events[self._n_reported :]
        if not events:
            return False
        self._n_reported += len(events)
        self._progress.add(events)
        self._recording.stop_at = self._plan.content_end(self._recording)
        self._queue.put(events)
        self._quota.count(events)
        return True

    def _note(self, error: CaptureError) -> None:
        """Log an error, and keep it as the reason of the next gap."""
        self.last_error = error
        self._progress.why = str(error)
        _log.warning("%s: %s", self._recording.channel, error)

    def _quiet_s(self, began: float) -> float:
        """Return the seconds without a segment in a run that began then."""
        age_s = self._progress.newest_age_s
        run_s = time.monotonic() - max(began, self._resumed_at)
        return run_s if age_s is None else min(run_s, age_s)

    def _close_with_gap(self) -> None:
        """Add a gap at the end, if nothing was being recorded then."""
        last = self._recording.last
        why, age_s = self._progress.why, self._progress.newest_age_s
        if why is None or last is None or age_s is None:
            return
        if isinstance(self.last_error, NotLive) and self.last_error.over:
            return  # it ended early, and did not come back: nothing is missing
        missing = timedelta(seconds=age_s)
        end = self._plan.content_end(self._recording)
        if end is not None:
            missing = min(missing, end - last.end)
        if missing < MIN_GAP:
            return
        gap = Gap(start=last.end, end=last.end + missing, why=why)
        try:
            self._recording.add_gap(gap)
        except OSError as e:
            _log.warning("the gap at the end of %s is not in its journal: %s", self._url, e)
            self._queue.put([gap])
        self._report()
