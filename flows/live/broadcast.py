"""Watches one broadcast of one channel, from the first segment to the last row."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.channel_lock import ChannelLock
from db.errors import ChannelLockLost, DatabaseError
from db.session import make_engine, require_current
from db.writing.spool import Spool
from flows.capture.redaction import shorten
from flows.capture.segment import CaptureError, NotLive
from flows.capture.source.operator.sources_values import SecretOf, no_secrets
from flows.capture.source.resolve import SANDBOX
from flows.capture.source.waiting import Waiting, wait_for_show
from flows.capture.stream import Stream
from flows.capture.supervisor.capture import Capture
from flows.errors import HandedOver, ShowFailed, Skipped
from flows.live.capturing import analysis_of, capture_of, recover_own
from flows.live.left_open import close_left_open
from flows.live.lifecycle import WatchedBroadcast, close, open_or_continue
from flows.live.locking.channel_turn import channel_turn, giving_way, rest_of, waiting_run
from flows.live.locking.database_wait import retry_on_outage
from flows.live.locking.handover_signal import MAY_LEAVE
from flows.live.locking.lock_check import Hold
from flows.live.rows.analysis import Analysis, Counts, take_for
from flows.live.rows.observers import Observer
from flows.live.rows.store import Store, keys
from flows.live.signals import undisturbed
from flows.live.way_to_source import WayToSource
from flows.recordings.finding import WAITING, folder_of
from flows.recordings.retention import Limits, Recordings, rolling
from flows.recordings.uploading import copying
from flows.settings import Settings
from flows.show import Show

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]

CANCEL_DRAIN_S: Final = 10.0
"""Seconds to analyse the backlog after a cancel; the worker kills the run after 30."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """One watch of a show; its steps run here or as tasks of a flow.

    find: calls a function that finds the stream. minute: analyses a minute of the capture.
    observer: gets its events. ends_at: end of the planned time; given, a busy channel is waited
    for. place: held while the networks run. extractors: of yt-dlp, tried before its own.
    of_schedule: a scheduled run, which goes before others. secret_of: reads the secrets that
    sources.toml names. was_cancelled: returns whether a run that left a broadcast open was.
    """

    show: Show
    settings: Settings
    database_url: str
    log: Log
    run_id: str | None = None
    find: Callable[[Callable[[], Stream]], Stream] = lambda look: look()
    minute: Callable[[Analysis, Capture], None] = take_for
    observer: Observer = field(default_factory=Observer)
    ends_at: datetime | None = None
    place: Callable[[], AbstractContextManager[None]] = nullcontext
    extractors: Sequence[type] = ()
    of_schedule: bool = False
    secret_of: SecretOf = no_secrets
    was_cancelled: Callable[[str], bool] = lambda run: False

    def run(self) -> Counts:
        """Watch and store one broadcast; return its counts.

        Raises one of EXPECTED, with a one-line message.
        """
        way = WayToSource.of(self.settings, self.show.url, self.secret_of)
        for mistake in way.mistakes:
            self.log.warning("%s", mistake)
        way.check(self.show.url)
        SANDBOX.start()
        with ExitStack() as stack:
            engine = make_engine(self.database_url, kept=1)
            stack.callback(engine.dispose)
            max_wait = self.show.max_wait
            when_there = partial(retry_on_outage, engine=engine, max_wait=max_wait, log=self.log)
            if self.run_id is None:  # on the command line: fail at once, its URL may be mistyped
                require_current(engine)
            else:
                when_there(lambda: require_current(engine))
            holder = self.run_id or f"showmood watch, process {os.getpid()}"
            turn = channel_turn(
                engine,
                self.show.slug,
                holder,
                recordings_dir=self.settings.recordings_dir,
                ends_at=self.ends_at,
                log=self.log,
                max_wait=max_wait,
                of_schedule=self.of_schedule,
            )
            held = stack.enter_context(turn)
            recordings = self.settings.recordings_dir / self.show.slug
            machine = self.settings.machine_name
            close_open = partial(close_left_open, engine, recordings, machine=machine, log=self.log)
            when_there(lambda: close_open(run_id=self.run_id, was_cancelled=self.was_cancelled))
            rest: datetime | None = None
            if self.run_id is not None:
                run_id = self.run_id
                rest = when_there(lambda: rest_of(engine, run_id, datetime.now(UTC)))
            until = rest or held.until
            try:
                stream = self._wait(engine, way, until, held.lock, was_on_air=rest is not None)
            except CaptureError:
                if rest is not None:  # nothing more will come of its broadcast
                    with suppress(DatabaseError):
                        close_open(run_id=None, was_cancelled=lambda run: False)
                raise
            self.log.info("found %s", stream.title or shorten(self.show.url))
            of_run = {"run_id": self.run_id, "machine": machine}
            broadcast = when_there(
                lambda: open_or_continue(engine, self.show, stream, until, log=self.log, **of_run)
            )
            return self._watch(engine, broadcast, stream, way, held.lock)

    def _watch(
        self,
        engine: Engine,
        broadcast: WatchedBroadcast,
        stream: Stream,
        way: WayToSource,
        lock: ChannelLock,
    ) -> Counts:
        """Record a broadcast; at the end set its status in the database and for the observer."""
        directory = folder_of(
            self.settings.recordings_dir, self.show.slug, broadcast.started_at, broadcast.id
        )
        store = Store(
            engine=engine,
            channel_id=broadcast.channel_id,
            broadcast_id=broadcast.id,
            model="",
            spool=Spool(directory / WAITING),
            settled=keys(broadcast.stored, broadcast.gaps),
            machine=self.settings.machine_name,
        )
        status: str | None = "failed"
        goes_on = False
        planned_end = broadcast.until or broadcast.started_at + self.show.length
        # From the end of the recording on, signals are deferred until all is stored.
        with ExitStack() as ending:
            try:
                self.observer.began(engine, broadcast.started_at, planned_end)
                if broadcast.until:
                    recover_own(directory, self.show, broadcast)
                capture = capture_of(
                    self.show, self.settings, broadcast, stream, way, directory, self.extractors
                )
                counts = self._record(broadcast, capture, directory, store, lock, ending)
                status = "completed"
            except HandedOver:
                status, goes_on = None, True
                raise
            except ChannelLockLost:
                status = None  # The process that has the channel now closes its broadcast.
                raise
            except Exception:
                raise
            except BaseException:  # a signal: cancelled, from the UI or by Ctrl-C
                status = "cancelled"
                raise
            finally:
                try:
                    if store.owes:
                        self.log.error("broadcast left open: the next watch stores what is missing")
                    elif status is not None:
                        close(engine, broadcast, status, self.log)
                        store.catch_up()  # `close` may have waited for the database
                finally:
                    if not goes_on:
                        self.observer.ended(status or "failed")
            return counts

    def _wait(
        self,
        engine: Engine,
        way: WayToSource,
        until: datetime | None,
        lock: ChannelLock,
        *,
        was_on_air: bool,
    ) -> Stream:
        """Return the show's stream when it is on air; raises as `wait_for_show`."""
        url, max_wait = self.show.url, self.show.max_wait
        if until is not None:
            max_wait = max(timedelta(0), min(max_wait, until - datetime.now(UTC)))
        hold = Hold(lock, self.log, lost=lambda: None, own=self.run_id)

        def on_waiting(waiting: Waiting) -> None:
            self.log.info("%s; waiting until %s UTC", waiting.why, f"{waiting.give_up_at:%H:%M:%S}")
            self.observer.waiting(waiting.starts_at)

        def pause(seconds: float) -> None:
            hold.check()
            run = waiting_run(engine, self.show.slug)
            if run == self.run_id is not None and MAY_LEAVE.is_set():
                raise HandedOver(f"{self.show.slug}: another worker continues to wait for it")
            if not self.of_schedule and run not in (None, self.run_id):
                raise Skipped(f"{self.show.slug}: the scheduled run {run} has its turn")
            time.sleep(seconds)

        look = partial(way.find, self.show, self.extractors)
        wait = partial(
            wait_for_show,
            url,
            look,
            give_up_after=max_wait,
            on_waiting=on_waiting,
            pause=pause,
            was_on_air=was_on_air,
        )
        try:
            return self.find(wait)
        except NotLive as e:
            self.observer.missed(str(e))
            raise

    def _record(
        self,
        broadcast: WatchedBroadcast,
        capture: Capture,
        directory: Path,
        store: Store,
        lock: ChannelLock,
        ending: ExitStack,
    ) -> Counts:
        recordings = Recordings(
            engine=store.engine,
            directory=self.settings.recordings_dir,
            limits=Limits.of(self.settings),
            log=self.log,
        )
        first = deque(store.left(directory))
        analysis: Analysis | None = None
        # Recording begins before there is a place on the GPU, and before the networks are loaded.
        copies = copying(self.settings, store.engine)
        with capture, rolling(recordings), copies, ExitStack() as stack:
            try:
                checked = Hold(lock, self.log, lost=capture.stop, own=self.run_id)
                hold = stack.enter_context(checked)
                way = giving_way(
                    store.engine,
                    self.show.slug,
                    capture.stop,
                    self.log,
                    own=self.run_id,
                    of_schedule=self.of_schedule,
                )
                handed = stack.enter_context(way)
                stack.enter_context(self.place())
                analysis = analysis_of(
                    self.show, self.settings, broadcast, store, self.observer, self.log
                )
                while first:
                    analysis.take(first.popleft())
                while not capture.finished:
                    self.minute(analysis, capture)
                    hold.check()
            except BaseException as e:
                is_signal = not isinstance(e, Exception)
                ending.enter_context(undisturbed(heard=is_signal))
                capture.stop()
                # Only after a signal: an error would repeat, and a lost channel has another writer.
                if analysis is not None and not first and is_signal:
                    take_for(analysis, capture, CANCEL_DRAIN_S)
                raise
            finally:
                ending.enter_context(undisturbed(heard=False))
                if analysis is not None:
                    analysis.close()
                if n_left := store.leave(store.left(directory)):
                    self.log.warning("%d segments are recorded, not analysed", n_left)
                store.catch_up()
        if handed.is_set():
            raise HandedOver(f"{self.show.slug}: another worker continues it")
        if capture.failure is not None:
            raise capture.failure
        if analysis.counts.segments == 0 and not broadcast.stored:
            why = capture.last_error or "the source sent nothing"
            raise ShowFailed(f"{self.show.slug}: nothing could be recorded and analysed: {why}")
        return analysis.counts
