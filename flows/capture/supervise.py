"""Keeps a capture alive: one broadcast from its first segment to its end, in order."""

import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flows.capture.address import AddressPolicy
from flows.capture.disk import MIN_FREE_BYTES, may_pass, require_space
from flows.capture.engines import Engine, Engines
from flows.capture.fetch import Fetcher
from flows.capture.finding import Finding, expires
from flows.capture.handover import Handover
from flows.capture.plan import Plan
from flows.capture.process import end_stale
from flows.capture.progress import Progress
from flows.capture.quota import Quota, QuotaExceeded
from flows.capture.recording import SHORTEST, Recording
from flows.capture.segment import (
    CaptureError,
    CaptureFailed,
    DiskFull,
    Gap,
    NotLive,
    Segment,
    SourceUnreachable,
    UnsafeURL,
)
from flows.capture.source import Stream, resolve
from flows.capture.stopping import Stopped

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.04
"""How often a run is asked: the most that finding a segment takes that ffmpeg has finished."""

_STOP_S: Final = 10.0
"""Whoever stops a capture waits no longer for its thread. ffmpeg is killed before that."""

_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 5.0
_RESOLVE_TIMEOUT_S: Final = 8.0

_FALSE_STARTS: Final = 3
"""A stream of which nothing was ever recorded is given up after so many runs of ffmpeg."""


class Capture:
    """Records a live stream in a thread of its own, and yields what it recorded.

    url: the page or playlist. directory: of this broadcast alone; what a capture before this one
    left there is gone on from (its segments come from `recover`): numbers go on, nothing is
    recorded twice, and a gap says what is missing. policy: what may be fetched.
    until: aware; when to stop. duration_s: how much to record, from the first segment on. Without
    both it goes on until the source ends. stream: what `resolve` gave for the URL, if that was
    asked already. stall_s: restart after so long without a segment. ended_after_s: for so long the
    source must say that it has ended. away_s: for so long, once there is a recording, it may be off
    air without its site saying that it is over, and come back. min_free_bytes: of the disk; with
    less, nothing is recorded. quota: beyond it, recording ends. engine: what records: "hls" for
    HLS sources alone, "ffmpeg" for any; "auto" takes the first that can.

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
    ) -> None:
        """Remember; nothing is started yet."""
        self.url, self.policy = url, policy
        self._directory, self._channel, self._broadcast = directory, channel, broadcast
        self._plan = Plan(until=until, duration_s=duration_s, grace_s=2 * stall_s)
        self._finding = Finding(
            partial(
                resolve,
                url,
                policy=policy,
                timeout_s=_RESOLVE_TIMEOUT_S,
                extractors=extractors,
                stopping=self._plan.stopping,
            ),
            stream=stream,
            ended_after_s=ended_after_s,
            away_s=away_s,
        )
        self._engines = Engines(engine, policy=policy, ffmpeg_path=ffmpeg_path, segment_s=segment_s)
        self._stall_s = stall_s
        self._min_free_bytes = min_free_bytes
        self._quota = quota or Quota()
        self.last_error: CaptureError | None = None
        """What went wrong last, whether or not the capture went on."""
        self.failure: CaptureError | None = None
        """What ended the capture, if that was an error."""
        self._handover = Handover()
        self._thread: threading.Thread | None = None
        self._progress = Progress()
        self._has_run = False
        self._n_reported = 0

    # -- for whoever consumes

    def __enter__(self) -> Self:
        """Tidy up after an earlier capture, and begin."""
        self._directory.mkdir(parents=True, exist_ok=True)
        end_stale(self._directory / "ffmpeg.pid")
        self._recording = Recording(
            self._directory, channel=self._channel, broadcast=self._broadcast
        )
        self._recording.recover()
        self._n_reported = len(self._recording.events)
        if self._recording.last is not None:
            self._progress.why = "nothing was recording"
        self._quota.begin(self._directory)
        self._plan.begin()
        self._thread = threading.Thread(target=self._run, name=f"capture-{self._channel}")
        self._thread.daemon = True
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
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
        """What it does, in a few words: "live, 412 segments, 0.7 s behind"."""
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

    # -- the thread

    def _run(self) -> None:
        expected = False
        try:
            self._record()
            expected = True
        except CaptureError as e:
            self.failure = self.last_error = e
            expected = True
        except OSError as e:
            self.failure = self.last_error = CaptureFailed(f"{self.url}: {e}")
            expected = True
        finally:
            if not expected:
                self.failure = CaptureFailed(f"{self.url}: the capture broke off; see the log")
            self._recording.close()
            self._progress.over = True
            self._handover.close()

    def _record(self) -> None:
        pause_s, runs = _BACKOFF_S, 0
        while not self._plan.is_over(self._recording):
            began = time.monotonic()
            stays = False
            try:
                require_space(self._directory, self._min_free_bytes)
                stream = self._finding.find(
                    recorded=self._recording.last is not None, note=self._note
                )
                runs += 1
                if self._record_once(stream):
                    pause_s = _BACKOFF_S
                    self._finding.is_live()
            except Stopped:
                break
            except (UnsafeURL, QuotaExceeded):
                raise
            except NotLive as e:
                if self._recording.last is None:
                    raise
                if self._finding.believes(e, since=began):
                    self.last_error = e
                    return
                self._note(e)
            except CaptureError as e:
                if self._finding.known is None:
                    raise
                self._note(e)
                stays = isinstance(e, DiskFull)
            except OSError as e:
                if not may_pass(e):
                    raise
                self._note(DiskFull(f"{self._directory}: {e.strerror}; see to the disk"))
                stays = True
            if not stays:
                self._finding.forget()
            if self._recording.last is None and runs >= _FALSE_STARTS:
                raise CaptureFailed(f"{self.url}: nothing could be recorded: {self._progress.why}")
            if time.monotonic() - began > _MAX_BACKOFF_S:
                pause_s = _BACKOFF_S
            # Half of it is left to chance, so that many captures of a source that was away do not
            # all come back at once.
            self._plan.pause(pause_s * random.uniform(0.5, 1.0), self._recording)
            pause_s = min(2 * pause_s, _MAX_BACKOFF_S)
        self._close_with_gap()
        if (
            self._recording.last is None
            and self.last_error is not None
            and not self._plan.stopping.is_set()
        ):
            raise self.last_error

    def _record_once(self, stream: Stream) -> bool:
        """Record until something ends it; tell whether it brought anything."""
        began = time.monotonic()
        brought = False
        stopping = self._plan.stopping
        with Fetcher(self.policy, headers=stream.sent, stopping=stopping) as fetcher:
            # What the disk had no room to note may be left of an earlier run.
            self._recording.recover()
            self._report()
            run = self._engines.start(
                stream,
                self._recording,
                fetcher,
                ended_after_s=self._finding.ended_after_s,
            )
            self._progress.restarts += self._has_run
            self._has_run = True
            why: str | None = None
            stalled = False
            try:
                while why is None and not self._plan.is_over(self._recording):
                    run.poll(why=self._progress.why)
                    brought |= self._report()
                    if stalled := self._stalled(began):
                        why = f"no segment for {self._stall_s:g} s"
                    elif expires(stream, since=began):
                        why = "the stream's address expires"
                    elif (why := run.ended) is None:
                        self._plan.stopping.wait(_POLL_S)
                        require_space(self._directory, self._min_free_bytes)
            finally:
                brought |= self._report()
                outage = run.outage
                try:
                    run.finish(why=self._progress.why, stalled=stalled)
                finally:
                    brought |= self._report()
                    self._progress.why = self._progress.why or outage
        if why is not None:
            said = f": {run.complaint}" if run.complaint else ""
            self._note(SourceUnreachable(f"{why}{said}"))
        return brought

    def _report(self) -> bool:
        """Pass on what was recorded; tell whether there was anything.

        Also where an error followed at once: what is in the journal is never told otherwise.
        """
        events = self._recording.events[self._n_reported :]
        if not events:
            return False
        self._n_reported += len(events)
        self._progress.add(events)
        self._recording.stop_at = self._plan.content_end(self._recording)
        self._handover.put(events)
        self._quota.count(events)
        return True

    def _note(self, error: CaptureError) -> None:
        """Keep what went wrong, for the log and for the gap that it makes."""
        self.last_error = error
        self._progress.why = str(error)
        _log.warning("%s: %s", self._channel, error)

    def _stalled(self, began: float) -> bool:
        age_s = self.newest_age_s
        run_s = time.monotonic() - began
        return min(run_s, run_s if age_s is None else age_s) > self._stall_s

    def _close_with_gap(self) -> None:
        """Say what is missing at the end, if the end comes while nothing is recorded."""
        last = self._recording.last
        why, age_s = self._progress.why, self.newest_age_s
        if why is None or last is None or age_s is None:
            return
        if isinstance(self.last_error, NotLive) and self.last_error.over:
            return  # It ended before its time, and did not come back.
        missing = timedelta(seconds=age_s)
        end = self._plan.content_end(self._recording)
        if end is not None:
            missing = min(missing, end - last.end)
        if missing < SHORTEST:
            return
        gap = Gap(start=last.end, end=last.end + missing, why=why)
        try:
            self._recording.add_gap(gap)
        except OSError as e:
            _log.warning("%s: the gap at the end is not in the journal: %s", self._channel, e)
            self._handover.put([gap])
        self._report()
