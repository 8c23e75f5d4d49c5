"""One broadcast of one channel from the first segment to the last row, with one writer."""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine

from db import queries, writes
from db.session import make_engine, require_current
from db.spool import Spool
from emotion.pipeline import Linker
from flows.analyse import Analysis, Counts, networks, take_for
from flows.audience import Audience
from flows.capture.address import AddressPolicy
from flows.capture.recording import recover
from flows.capture.segment import Gap
from flows.capture.source import Stream, resolve
from flows.capture.supervise import Capture
from flows.errors import EXPECTED, ShowFailed
from flows.settings import Settings
from flows.shows import Show
from flows.store import WAITING, Store, write_left_behind
from flows.turn import channel_turn, rest_of

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


END: Final = datetime.max.replace(tzinfo=UTC)


def find_stream_here(url: str, policy: AddressPolicy) -> Stream:
    """Resolve a page to its stream."""
    return resolve(url, policy=policy)


@dataclass(frozen=True, kw_only=True, slots=True)
class Broadcast:
    """The broadcast that a watch writes.

    until: when to stop, for one that is continued; None for a new one. stored: the sequences of
    the segments whose analysis is settled. tracker_state: after the last of them.
    """

    id: int
    channel_id: int
    started_at: datetime
    until: datetime | None = None
    stored: frozenset[int] = frozenset()
    tracker_state: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """One watch of a show: how its parts are run, here or as tasks of a flow.

    find: the stream behind a URL. minute: take a minute of the capture. audience: who is told.
    ends_at: the end of the planned time, of one that waits where its channel is watched. place:
    held while the networks run.
    """

    show: Show
    settings: Settings
    database_url: str
    log: Log
    run_id: str | None = None
    find: Callable[[str, AddressPolicy], Stream] = find_stream_here
    minute: Callable[[Analysis, Capture], None] = take_for
    audience: Audience = field(default_factory=Audience)
    ends_at: datetime | None = None
    place: Callable[[], AbstractContextManager[None]] = nullcontext

    def run(self) -> Counts:
        """Watch one broadcast and store it; return what was done.

        Raises one of EXPECTED, with a line for people.
        """
        policy = AddressPolicy.of(self.settings.allow_networks)
        policy.check(self.show.url)
        with ExitStack() as stack:
            engine = make_engine(self.database_url)
            stack.callback(engine.dispose)
            require_current(engine)
            holder = self.run_id or f"showmood watch, process {os.getpid()}"
            turn = channel_turn(engine, self.show.slug, holder, ends_at=self.ends_at, log=self.log)
            until = stack.enter_context(turn).until
            if self.run_id is not None:
                until = rest_of(engine, self.run_id, datetime.now(UTC)) or until
            write_left_behind(engine, self.settings.recordings_dir / self.show.slug)
            stream = self.find(self.show.url, policy)
            self.log.info("found %s", stream.title or self.show.url)
            broadcast = self._open_or_continue(engine, stream, until)
            status = "failed"
            planned_end = broadcast.until or broadcast.started_at + self.show.length
            try:
                self.audience.began(engine, broadcast.started_at, planned_end)
                counts = self._record(engine, broadcast, stream, policy)
                status = "completed"
            except EXPECTED:
                raise
            except BaseException:  # cancelled, from the UI or by Ctrl-C
                status = "cancelled"
                raise
            finally:
                with engine.begin() as connection:
                    now = datetime.now(UTC)
                    writes.close_broadcast(connection, broadcast.id, ended_at=now, status=status)
                self.audience.ended(status)
            return counts

    def _open_or_continue(
        self, engine: Engine, stream: Stream, until: datetime | None
    ) -> Broadcast:
        """Return the broadcast to write: one that a dead watcher left, if its time is not over.

        The channel's lock is held: whoever wrote that one is gone. until: when a new one ends, if
        not after the show's own length.
        """
        now = datetime.now(UTC)
        with engine.begin() as connection:
            channel_id = writes.ensure_channel(connection, self.show.slug, self.show.url)
            left = writes.find_open_broadcast(connection, channel_id)
            if left is not None:
                if (
                    left.planned_end
                    and left.planned_end > now
                    and left.source_id == stream.source_id
                ):
                    self.log.warning("going on with the broadcast of %s", left.started_at)
                    return Broadcast(
                        id=left.id,
                        channel_id=channel_id,
                        started_at=left.started_at,
                        until=left.planned_end,
                        stored=frozenset(
                            segment.sequence
                            for segment in queries.segments_of(connection, left.id)
                            if segment.status != "recorded"
                        ),
                        # The newest there is, whatever the source's clock says.
                        tracker_state=queries.tracker_state_before(connection, left.id, END),
                    )
                writes.close_broadcast(connection, left.id, ended_at=now, status="interrupted")
            new = writes.open_broadcast(
                connection,
                channel_id=channel_id,
                started_at=now,
                planned_end=until or now + self.show.length,
                source_id=stream.source_id,
                title=stream.title,
                flow_run_id=self.run_id,
            )
        return Broadcast(id=new, channel_id=channel_id, started_at=now, until=until)

    def _record(
        self, engine: Engine, broadcast: Broadcast, stream: Stream, policy: AddressPolicy
    ) -> Counts:
        show, settings = self.show, self.settings
        folder = f"{broadcast.started_at:%Y%m%dT%H%M%SZ}-{broadcast.id}"
        directory = settings.recordings_dir / show.slug / folder
        left_behind = list(recover(directory)) if broadcast.until else []
        capture = Capture(
            show.url,
            directory=directory,
            channel=show.slug,
            broadcast=broadcast.id,
            policy=policy,
            until=broadcast.until,
            duration_s=None if broadcast.until else show.length.total_seconds(),
            segment_s=settings.segment_s,
            stream=stream,
            ffmpeg_path=settings.ffmpeg,
            engine=settings.engine,
            stall_s=settings.stall_s,
            min_free_bytes=settings.min_free_disk_mb << 20,
        )
        # Recording begins while a place is waited for and the networks are loaded.
        with capture, self.place():
            analyser = networks(
                show.detector,
                settings.emotion_network(show.emotion_model),
                settings.device,
                settings.cache_dir,
                settings.detection_size_px,
            )
            store = Store(
                engine=engine,
                channel_id=broadcast.channel_id,
                broadcast_id=broadcast.id,
                model=analyser.model,
                spool=Spool(directory / WAITING),
            )
            analysis = Analysis(
                analyser=analyser,
                linker=Linker(broadcast.tracker_state),
                store=store,
                fps=show.analysed_fps,
                log=self.log,
                audience=self.audience,
            )
            for item in left_behind:
                if isinstance(item, Gap) or item.sequence not in broadcast.stored:
                    analysis.take(item)
            try:
                while not capture.finished:
                    self.minute(analysis, capture)
            except BaseException:
                capture.stop()
                take_for(analysis, capture)
                raise
            finally:
                store.catch_up()
        if capture.failure is not None:
            raise capture.failure
        if analysis.counts.segments == 0 and not broadcast.stored:
            why = capture.last_error or "the source brought nothing"
            raise ShowFailed(f"{show.slug}: nothing could be recorded and analysed: {why}")
        return analysis.counts
