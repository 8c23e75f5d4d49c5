"""The HLS engine: records a source's segments, unchanged, as they appear.

A playlist that fails is requested again, and its segments are fetched in order while they are
listed: after an outage all that the source still lists is recorded. MPEG-TS and fMP4 (RFC 8216); an
fMP4 file begins with its initialisation section, so that it can be opened on its own.
"""

import logging
import time
from collections import deque
from datetime import UTC, datetime

from flows.capture.hls.audio import AudioRecorder
from flows.capture.hls.dating import Dates
from flows.capture.hls.endings import Endings
from flows.capture.hls.feed import Feed
from flows.capture.hls.holding import Holding
from flows.capture.hls.pacing import Pacing
from flows.capture.hls.pending import Losses, Pending, Room, due
from flows.capture.hls.pieces import Pieces
from flows.capture.hls.queue import Queue
from flows.capture.hls.refused import Refused
from flows.capture.hls.repeats import Repeats
from flows.capture.net.fetch import Fetcher
from flows.capture.playlists.playlist import Playlist
from flows.capture.processes import claim
from flows.capture.quality import Quality
from flows.capture.recorded.recording import Recording
from flows.capture.recorded.rolling_playlist import RollingPlaylist
from flows.capture.segment import (
    CaptureError,
    Gap,
    NoPicture,
    NoStream,
    NotLive,
    NotWatchable,
    Segment,
    UnsafeURL,
)
from flows.capture.stream import Stream

_log = logging.getLogger(__name__)


class HlsRun:
    """Fetches a live playlist and its segments, until it ends or an error needs a new address.

    To be used by one thread, which must poll it. Raises, from `poll`: UnsafeURL; NotLive once its
    playlist has had EXT-X-ENDLIST for `ended_after_s`; NoStream for an address that never gave
    a playlist; NotWatchable; OSError.
    """

    def __init__(
        self,
        stream: Stream,
        recording: Recording,
        fetcher: Fetcher,
        *,
        ended_after_s: float,
        quality: Quality | None = None,
        pacing: Pacing | None = None,
        time_shifted: bool = False,
        language: str = "",
    ) -> None:
        """Continue the recording; nothing is fetched yet."""
        self._recording, self._fetcher = recording, fetcher
        self._pieces = Pieces(fetcher)
        self._feed = Feed(stream, fetcher, quality)
        self._ended_after_s = ended_after_s
        self._name = recording.new_run(datetime.now(UTC), verbatim=True)
        claim(recording.pid_file)
        self._queue = Queue(recording, fetcher, off_air_at=stream.off_air_at)
        self._dates, self._endings = Dates(recording, time_shifted=time_shifted), Endings()
        self._rolling = RollingPlaylist(recording, self._name)
        self._items: deque[Pending] = deque()
        self._audio = AudioRecorder(recording.directory, fetcher, language=language)
        self._room, self._repeats = Room(), Repeats()
        self._written, self._first_load, self._losses = 0, True, Losses()
        self._pacing = pacing or Pacing()
        self._pacing.begin()
        self._pacing.hold(stream.retry_at)
        self._holding = Holding()
        self._refused = Refused(by_page=stream.page_url != stream.url)
        self._ended_at: float | None = None
        self._dropped: list[str] = []
        self._error: str | None = None
        self.ended: str | None = None
        """Why the run is over; None while it is not."""

    @property
    def error_text(self) -> str:
        """The last error since the last segment; empty if none."""
        return self._error or ""

    @property
    def step_s(self) -> float:
        """The longest segment that the source announces, in seconds."""
        return max(self._pacing.target_s, self._pacing.last_s, self._pacing.wait_s)

    @property
    def unreadable(self) -> str | None:
        """Why segments can't be read; None if they can, or none come."""
        return self._losses.unreadable

    @property
    def outage(self) -> str | None:
        """Why it is not recording; None while it is."""
        quiet_s = time.monotonic() - self._pacing.changed_at
        if self._error is None and quiet_s > 3 * self._pacing.pace_s + 1:
            return "the source listed nothing new"
        return self._error

    @property
    def pause_s(self) -> float:
        """Seconds until a segment or the playlist is due."""
        return 0.0 if due(self._items) else max(0.0, self._pacing.due_at - time.monotonic())

    def poll(self, *, why: str | None = None) -> list[Segment | Gap]:
        """Fetch what is due, one segment at most, and return what was recorded, in order.

        why: the reason of a gap before it.
        """
        self._queue.listing.save()  # now: what was recorded has been handed over
        if time.monotonic() >= self._pacing.due_at:
            self._load()
        item = due(self._items)
        if item is not None:
            self._fetch(item)
        return self._record(why)

    def finish(self, *, why: str | None = None, stalled: bool = False) -> list[Segment | Gap]:
        """Stop, and return what is left."""
        try:
            events = self._record(why, waits=False)
            self._queue.listing.save()
            return events
        finally:
            self._audio.close()
            for item in self._items:
                item.discard()
            self._items.clear()
            self._recording.pid_file.unlink(missing_ok=True)

    # -- the playlist

    def _load(self) -> None:
        now = time.monotonic()
        until = self._holding.until if not self._items else None
        try:
            playlist = self._feed.load(until=until, held_s=self._holding.held_s)
            grew = self._take(playlist)
            self._holding.answered(playlist, until=until, grew=grew)
            if not grew:
                self._pacing.stayed(self._feed.asked_at)
            elif until is not None:
                self._pacing.unblocked(self._feed.asked_at)
            else:
                self._pacing.grew(self._feed.asked_at)
        except (UnsafeURL, NotLive, NotWatchable):
            raise
        except CaptureError as e:
            self._holding.failed(until=until)
            if self._first_load and isinstance(e, NoStream):
                raise
            self._fail(e)
            self._pacing.failed(e)
            if not self._pacing.wait_s:
                why = self._refused.playlist(e, asked_at=now, at_first=self._first_load)
                self.ended = why or self.ended
            return
        self._first_load = False
        self._audio.follow(self._feed, waiting=[item.entry for item in self._items])
        self._refused.playlist_came()
        if not self._items:
            self._error = None
        if playlist.ended:
            self._ended_at = self._ended_at or now
            if now - self._ended_at >= self._ended_after_s and not self._items:
                raise NotLive(
                    f"{self._feed.url}: the stream has ended",
                    over=True,
                    ended_for_s=max(0.001, now - self._ended_at),
                )
        else:
            self._ended_at = None

    def _take(self, playlist: Playlist) -> bool:
        """Take new segments; return whether there were any."""
        if self._first_load:
            self._fetcher.check(playlist.urls)
        if playlist.ended and self._first_load and self._recording.last is None:
            raise NotLive(f"{self._feed.url}: the stream has ended", over=True)
        if not (entries := playlist.entries):
            return False
        self._pacing.target_s = max(0.5, playlist.target_s or 2.0)
        self._fetcher.timeout_s = min(max(2 * self._pacing.target_s, 4.0), 6.0)
        self._pacing.lists_few = len(entries) < 3
        self._dates.watch_wobble(entries)
        if self._first_load:
            self._dates.look_at_edge(entries[-1].end, before=self._queue.listing.shift)
        new = self._queue.look(playlist, self._items)
        if not new or not self._room.takes(self._items, new, url=self._feed.url):
            return False
        self._items += self._queue.add(playlist, new, url=self._feed.url)
        self._queue.listing.advance(entries, new)
        self._pacing.last_s = new[-1].duration_s or self._pacing.target_s
        return True

    # -- the segments

    def _fetch(self, item: Pending) -> None:
        path = self._recording.directory / f"{self._name}-{self._written:06d}.tmp"
        self._written += 1
        try:
            item.fetch(self._pieces, path)
        except UnsafeURL:
            raise
        except CaptureError as e:
            item.fail(e, target_s=self._pacing.target_s)
            self._fail(e)
            if isinstance(e, NoPicture) and not self._losses.has_recorded:
                self._feed.skip()
                self._items.clear()
                self._queue = self._queue.afresh()
                self._pacing.hurry()
                self._holding = Holding()
            self.ended = self._refused.segment(e) or self.ended
            if self._refused.failing_s > 2 * self._pacing.pace_s + 1 and self._feed.leave():
                self._pacing.hurry()
            return
        self._refused.segment_came()

    def _fail(self, error: CaptureError) -> None:
        if self._error is None and not isinstance(error, NoPicture):
            _log.warning("%s", error)
        self._error = str(error)
        self._audio.refused(error)

    def _record(self, why: str | None, *, waits: bool = True) -> list[Segment | Gap]:
        events: list[Segment | Gap] = []
        target_s = self._pacing.target_s
        wait_s = 2 * self._pacing.pace_s if waits else 0.0
        while self._repeats.settle(self._items):
            item = self._items[0]
            others = any(o.path and o.fetched_at < item.failed_at for o in self._items)
            if item.path is None and not item.is_lost(others=others, target_s=target_s):
                break
            if self._recording.last is None and (lead_in := self._queue.lead_in(item)):
                self._items.appendleft(lead_in)
                break
            if not self._endings.settle(self._items, wait_s=wait_s):
                break
            self._items.popleft()
            if item.path is None or item.extent is None:
                _log.warning("a segment is lost: %s", item.error)
                self._losses.lost(item)
                self._dropped.append(item.error)
                del self._dropped[:-3]
                continue
            reasons = dict.fromkeys(filter(None, [why, *self._dropped, self._error]))
            entry = item.entry
            start, end, estimated = self._dates.of(
                entry,
                item.extent,
                arrival=item.arrival,
                follows=item.follows and not entry.discontinuity and not self._dropped,
                repeats=item.repeats,
                is_ad=item.is_ad,
            )
            try:
                events += self._recording.add(
                    item.path,
                    item.extent,
                    start=start,
                    end=end,
                    estimated=estimated,
                    why="; ".join(reasons) or None,
                    continuous=item.follows and not entry.discontinuity,
                    is_ad=item.is_ad,
                )
            except OSError:
                item.path.unlink(missing_ok=True)
                raise
            self._dropped.clear()
            self._error = why = None
            if self._endings.recorded(item):
                self._dropped.append(item.ends_early)
            self._queue.listing.recorded(entry)
            self._losses.recorded()
            self._repeats.recorded(item)
            if item.path.exists():
                self._audio.pictured(self._recording.last, item.extent)
                self._rolling.add(
                    item.path,
                    duration=end - start,
                    target_s=target_s,
                    discontinuity=entry.discontinuity or not item.follows,
                    head_bytes=item.head_bytes,
                )
        return events
