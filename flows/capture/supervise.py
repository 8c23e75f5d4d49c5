"""Keeps a capture alive: one broadcast from its first segment to its end, in order."""

import errno
import logging
import os
import random
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from flows.capture import ffmpeg, hls
from flows.capture.address import AddressPolicy
from flows.capture.fetch import Fetcher
from flows.capture.process import end_stale, find_ffmpeg
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

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.04
"""How often a run is asked: the most that finding a segment takes that ffmpeg has finished."""

_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 5.0
_RESOLVE_BEFORE: Final = timedelta(minutes=15)
"""A stream's address is found anew so long before it expires."""

_RESOLVE_TIMEOUT_S: Final = 8.0

_FALSE_STARTS: Final = 3
"""A stream of which nothing was ever recorded is given up after so many runs of ffmpeg."""

MIN_FREE_BYTES: Final = 256 * 1024 * 1024


Engine = Literal["auto", "hls", "ffmpeg"]


class Run(Protocol):
    """What records, until something ends it: `flows.capture.hls` or `flows.capture.ffmpeg`."""

    @property
    def ended(self) -> str | None:
        """Why nothing more will come; None while something may."""

    @property
    def complaint(self) -> str:
        """What went wrong last; empty if nothing."""

    @property
    def outage(self) -> str | None:
        """What keeps it from recording just now, as far as it knows."""

    def poll(self, *, why: str | None = None) -> list[Segment | Gap]:
        """Return what was finished since the last call; `why` is for a gap before it."""

    def finish(self, *, why: str | None = None, stalled: bool = False) -> list[Segment | Gap]:
        """End it and return what is left."""


def _now() -> datetime:
    return datetime.now(UTC)


class Capture:
    """Records a live stream in a thread of its own, and yields what it recorded.

    url: the page or playlist. directory: of this broadcast alone; what a capture before this one
    left there is gone on from (its segments come from `recover`): numbers go on, nothing is
    recorded twice, and a gap says what is missing. policy: what may be fetched.
    until: aware; when to stop. duration_s: how much to record, from the first segment on. Without
    both it goes on until the source ends. stream: what `resolve` gave for the URL, if that was
    asked already. stall_s: restart after so long without a segment. ended_after_s: for so long the
    source must say that it has ended. min_free_bytes: of the disk; with less, nothing is recorded.
    engine: what records: "hls" for HLS sources alone, "ffmpeg" for any; "auto" takes the first
    that can.

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
        min_free_bytes: int = MIN_FREE_BYTES,
        extractors: Sequence[type] = (),
        engine: Engine = "auto",
    ) -> None:
        """Remember; nothing is started yet."""
        self.url, self.policy = url, policy
        self._directory, self._channel, self._broadcast = directory, channel, broadcast
        self._until, self._duration_s, self._segment_s = until, duration_s, segment_s
        self._stream, self._extractors = stream, extractors
        self._ffmpeg = find_ffmpeg(ffmpeg_path)
        self._engine = engine
        self._stall_s, self._ended_after_s = stall_s, ended_after_s
        self._min_free_bytes = min_free_bytes
        self.restarts = 0
        """How often a run was started again."""
        self.last_error: CaptureError | None = None
        """What went wrong last, whether or not the capture went on."""
        self.failure: CaptureError | None = None
        """What ended the capture, if that was an error."""
        self._events: deque[Segment | Gap] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._done = False
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._newest_at: float | None = None
        self._why: str | None = None
        self._has_run = False
        self._known: Stream | None = None
        self._not_live_since: float | None = None

    # -- for whoever consumes

    def __enter__(self) -> Self:
        """Tidy up after an earlier capture, and begin."""
        self._directory.mkdir(parents=True, exist_ok=True)
        end_stale(self._directory / "ffmpeg.pid")
        self._recording = Recording(
            self._directory, channel=self._channel, broadcast=self._broadcast
        )
        self._recording.recover()
        if self._recording.last is not None:
            self._why = "nothing was recording"
        self._began_at = time.monotonic()
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
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._done and not self._events

    @property
    def newest_age_s(self) -> float | None:
        """Seconds since the newest segment was finished; None before the first."""
        return None if self._newest_at is None else time.monotonic() - self._newest_at

    def get(self, timeout_s: float) -> Segment | Gap | None:
        """Return the next segment or gap; None if there is none within `timeout_s`, or no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._done, timeout_s)
            return self._events.popleft() if self._events else None

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
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _record(self) -> None:
        pause_s, runs = _BACKOFF_S, 0
        while not self._is_over():
            began = time.monotonic()
            try:
                self._require_space()
                if self._stream is None:
                    self._stream = self._find()
                self._known = self._stream
                runs += 1
                if self._record_once(self._stream):
                    pause_s, self._not_live_since = _BACKOFF_S, None
            except UnsafeURL:
                raise
            except NotLive as e:
                if self._recording.last is None:
                    raise
                # A playlist that says so for long is doubted once: the page may know of another.
                doubted = self._not_live_since is None and e.ended_for_s > 0
                self._not_live_since = self._not_live_since or began
                if time.monotonic() - self._not_live_since >= self._ended_after_s and not doubted:
                    return
                self._note(e)
            except CaptureError as e:
                if self._known is None:
                    raise
                self._note(e)
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                self._note(DiskFull(f"{self._directory}: {e.strerror}; free some space"))
            self._stream = None
            if self._recording.last is None and runs >= _FALSE_STARTS:
                raise CaptureFailed(f"{self.url}: nothing could be recorded: {self._why}")
            if time.monotonic() - began > _MAX_BACKOFF_S:
                pause_s = _BACKOFF_S
            # Half of it is left to chance, so that many captures of a source that was away do not
            # all come back at once.
            self._pause(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _MAX_BACKOFF_S)
        self._close_with_gap()
        if (
            self._recording.last is None
            and self.last_error is not None
            and not self._stopping.is_set()
        ):
            raise self.last_error

    def _find(self) -> Stream:
        """Find the stream anew; the one that is known does while the page does not answer."""
        try:
            return resolve(
                self.url,
                policy=self.policy,
                timeout_s=_RESOLVE_TIMEOUT_S,
                extractors=self._extractors,
            )
        except SourceUnreachable as e:
            if self._known is None or self._recording.last is None:
                raise
            self._note(e)
            return self._known

    def _record_once(self, stream: Stream) -> bool:
        """Record until something ends it; tell whether it brought anything."""
        began = time.monotonic()
        brought = False
        with Fetcher(self.policy, headers=stream.headers) as fetcher:
            # What the disk had no room to note may be left of an earlier run.
            self._report(self._recording.recover())
            run = self._start(stream, fetcher)
            self.restarts += self._has_run
            self._has_run = True
            why: str | None = None
            stalled = False
            try:
                while why is None and not self._is_over():
                    brought |= self._report(run.poll(why=self._why))
                    if stalled := self._stalled(began):
                        why = f"no segment for {self._stall_s:g} s"
                    elif stream.expires_at and _expires(stream.expires_at, began):
                        why = "the stream's address expires"
                    elif (why := run.ended) is None:
                        self._stopping.wait(_POLL_S)
                        self._require_space()
            finally:
                outage = run.outage
                brought |= self._report(run.finish(why=self._why, stalled=stalled))
        if why is not None:
            said = f": {run.complaint}" if run.complaint else ""
            self._note(SourceUnreachable(f"{why}{said}"))
        elif outage is not None and self._why is None:
            self._why = outage
        return brought

    def _start(self, stream: Stream, fetcher: Fetcher) -> Run:
        if stream.protocol == "hls" and self._engine != "ffmpeg":
            return hls.Run(
                stream,
                self._recording,
                fetcher,
                self.policy,
                ended_after_s=self._ended_after_s if self._not_live_since is None else 0.0,
            )
        if self._engine == "hls":
            raise CaptureFailed(f"{self.url}: no HLS; take the engine auto or ffmpeg")
        start_index = self._look_before(stream, fetcher)
        return ffmpeg.Run(
            stream,
            self._recording,
            fetcher,
            ffmpeg_path=self._ffmpeg,
            segment_s=self._segment_s,
            start_index=start_index,
        )

    def _look_before(self, stream: Stream, fetcher: Fetcher) -> int:
        """Check what the playlist leads to before ffmpeg follows; return where to begin in it.

        That is the newest segment, or the first that is not recorded yet: what was missed may
        still be listed. Raises CaptureError.
        """
        if stream.protocol != "hls":
            return -1
        playlist = fetcher.get_playlist(stream.url)
        hosts = {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, playlist.urls)}
        for host in hosts:
            self.policy.check(host)
        if playlist.ended:
            raise NotLive(f"{self.url}: the stream has ended")
        last = self._recording.last
        if last is None or last.start_is_estimated:
            return -1
        missed = [
            entry
            for entry in playlist.entries
            if entry.date and entry.date + timedelta(seconds=entry.duration_s) > last.end
        ]
        # One more, for the one that may be added before ffmpeg looks.
        return -(len(missed) + 1) if missed else -1

    def _report(self, events: list[Segment | Gap]) -> bool:
        """Pass on what was recorded; tell whether there was a segment."""
        if not events:
            return False
        self._why = None
        self._newest_at = time.monotonic()
        with self._changed:
            self._events += events
            self._recording.stop_at = self._content_end
            self._changed.notify_all()
        return True

    def _note(self, error: CaptureError) -> None:
        """Keep what went wrong, for the log and for the gap that it makes."""
        self.last_error = error
        self._why = str(error)
        _log.warning("%s: %s", self._channel, error)

    # -- when to stop

    @property
    def _content_end(self) -> datetime | None:
        first = self._recording.first
        if first is None or self._duration_s is None:
            return None
        return first.start + timedelta(seconds=self._duration_s)

    def _is_over(self) -> bool:
        if self._stopping.is_set() or (self._until is not None and _now() >= self._until):
            return True
        last, end = self._recording.last, self._content_end
        if last is not None and end is not None and last.end >= end:
            return True
        # A source that stops has no clock: ours then says when the time is up.
        return self._duration_s is not None and (
            time.monotonic() - self._began_at >= self._duration_s + 2 * self._stall_s
        )

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over() and (left_s := end - time.monotonic()) > 0:
            self._stopping.wait(min(left_s, 0.2))

    def _stalled(self, began: float) -> bool:
        since = max(began, self._newest_at or began)
        return time.monotonic() - since > self._stall_s

    def _require_space(self) -> None:
        free = shutil.disk_usage(self._directory).free
        if free < self._min_free_bytes:
            raise DiskFull(
                f"{self._directory}: {free >> 20} MiB free, {self._min_free_bytes >> 20} MiB are "
                "needed to record; free some space"
            )

    def _close_with_gap(self) -> None:
        """Say what is missing at the end, if the end comes while nothing is recorded."""
        last = self._recording.last
        if self._why is None or last is None or self._newest_at is None:
            return
        missing = timedelta(seconds=time.monotonic() - self._newest_at)
        if self._content_end is not None:
            missing = min(missing, self._content_end - last.end)
        if missing < SHORTEST:
            return
        gap = Gap(start=last.end, end=last.end + missing, why=self._why)
        self._recording.add_gap(gap)
        with self._changed:
            self._events.append(gap)


def _expires(at: datetime, began: float) -> bool:
    """Tell whether to renew an address: not again for one that was as near its end when new."""
    return time.monotonic() - began > 60 and _now() > at - _RESOLVE_BEFORE
