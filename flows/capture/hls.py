"""An HLS source's own segments, recorded as they are, at the pace at which they appear.

A playlist that fails is asked again, and what it lists is fetched in order as long as it is listed:
nothing of a source is lost that it still offers when it answers again. MPEG-TS and fMP4 (RFC 8216);
a file of fMP4 begins with its initialisation section, and its timestamps with zero, so that it can
be opened on its own.
"""

import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from flows.capture.address import AddressPolicy, read_host
from flows.capture.fetch import Fetcher
from flows.capture.media import TICKS_PER_S, Extent, measure
from flows.capture.pieces import Pieces
from flows.capture.playlist import Entry, Playlist, choose_variant
from flows.capture.process import claim
from flows.capture.recording import SHORTEST, Recording, whole_ms
from flows.capture.segment import (
    CaptureError,
    Gap,
    NoStream,
    NotLive,
    Segment,
    UnreadableMedia,
    UnsafeURL,
)
from flows.capture.source import Stream

_log = logging.getLogger(__name__)

_LISTED: Final = 30
"""So many segments the local playlist lists."""

_AHEAD: Final = 32
"""So many segments are fetched, at most, while one before them can't be."""

_HELD_UP_S: Final = 15.0
"""For so long a listed segment that fails holds up those that came after it."""

_MOST_FORBIDDEN: Final = 3
_MOST_UNREADABLE: Final = 3
_MOST_MISSING: Final = 5
_DEEPEST: Final = 2
"""A master playlist leads to a media playlist, and not to another and another."""

_CREDIBLE_JUMP: Final = timedelta(seconds=60)


@dataclass(kw_only=True, slots=True)
class _Item:
    """A listed segment that is not recorded yet.

    arrival: when it was published, as far as is known, less its length: its date where the source
    gives none. follows: nothing is missing between it and the one before. repeats: it may be
    recorded already, in whole or in part.
    """

    entry: Entry
    arrival: datetime
    follows: bool
    repeats: bool
    listed: bool = True
    path: Path | None = None
    extent: Extent | None = None
    head_bytes: int | None = None
    tries: int = 0
    unreadable: int = 0
    missing: int = 0
    failing_since: float | None = None
    try_at: float = 0.0
    error: str = ""


@dataclass(kw_only=True, slots=True)
class _Position:
    """Where in the source the newest queued segment was.

    end: the date of its end by the source's clock, None without one.
    """

    sequence: int
    end: datetime | None
    seen: deque[str] = field(default_factory=lambda: deque(maxlen=1000))


class Run:
    """Fetches a live playlist and its segments, until it ends or an error needs a new address.

    To be used by one thread, which must poll it. Raises, from `poll`: UnsafeURL; NotLive once the
    source has said for `ended_after_s` that it has ended; NoStream for an address that never gave
    a playlist; OSError.
    """

    def __init__(
        self,
        stream: Stream,
        recording: Recording,
        fetcher: Fetcher,
        policy: AddressPolicy,
        *,
        ended_after_s: float,
    ) -> None:
        """Go on from where the recording stopped; nothing is fetched yet."""
        self._recording, self._fetcher, self._policy = recording, fetcher, policy
        self._pieces = Pieces(fetcher)
        self._url, self._ended_after_s = stream.url, ended_after_s
        self._name = recording.new_run(datetime.now(UTC), verbatim=True)
        claim(recording.pid_file)
        self._position = _load_position(recording)
        self._checked: set[str] = set()
        self._items: deque[_Item] = deque()
        self._listed: deque[str] = deque(maxlen=_LISTED)
        self._written = 0
        self._first_load = True
        self._load_at = 0.0
        self._target_s, self._last_s = 2.0, 2.0
        self._changed_at = time.monotonic()
        self._recorded_at: float | None = None
        self._failures = 0
        self._forbidden = 0
        self._back_newest: int | None = None
        self._ended_at: float | None = None
        self._shift = timedelta(0)
        self._wobble = timedelta(0)
        self._dropped: list[str] = []
        self._error: str | None = None
        self.ended: str | None = None
        """Why nothing more will come; None while something may."""

    @property
    def complaint(self) -> str:
        """What went wrong last, since the last segment; empty if nothing."""
        return self._error or ""

    @property
    def outage(self) -> str | None:
        """What keeps it from recording just now; None if nothing does."""
        if self._error is not None:
            return self._error
        if time.monotonic() - self._changed_at > 3 * self._pace_s + 1:
            return "the source listed nothing new"
        return None

    def poll(self, *, why: str | None = None) -> list[Segment | Gap]:
        """Fetch what is due, one segment at most, and return what was recorded, in order.

        why: what to say of a gap before it.
        """
        if time.monotonic() >= self._load_at:
            self._load()
        item = self._due()
        if item is not None:
            self._fetch(item)
        return self._record(why)

    def finish(self, *, why: str | None = None, stalled: bool = False) -> list[Segment | Gap]:
        """Stop, and return what is left."""
        try:
            return self._record(why)
        finally:
            for item in self._items:
                if item.path is not None:
                    item.path.unlink(missing_ok=True)
            self._items.clear()
            self._recording.pid_file.unlink(missing_ok=True)

    # -- the playlist

    @property
    def _pace_s(self) -> float:
        return self._last_s or self._target_s

    def _load(self) -> None:
        now = time.monotonic()
        try:
            playlist = self._get_playlist()
            self._queue(playlist)
        except (UnsafeURL, NotLive):
            raise
        except CaptureError as e:
            if self._first_load and isinstance(e, NoStream):
                raise
            self._fail(e)
            self._failures += 1
            self._load_at = now + min(0.1 * 2**self._failures, self._target_s, 2.0)
            return
        self._first_load = False
        self._failures = 0
        if not self._items:
            self._error = None
        if playlist.ended:
            self._ended_at = self._ended_at or now
            if now - self._ended_at >= self._ended_after_s and not self._items:
                raise NotLive(
                    f"{self._url}: the stream has ended",
                    ended_for_s=max(0.001, now - self._ended_at),
                )
        else:
            self._ended_at = None
        self._load_at = self._next_load(time.monotonic())

    def _next_load(self, now: float) -> float:
        """Return when to look again: shortly before the next segment is due, then often."""
        step_s = min(max(self._pace_s / 8, 0.1), 0.5)
        idle_s = now - self._changed_at
        if idle_s > 3 * self._pace_s + 1:
            step_s = min(max(self._target_s / 2, step_s), 2.0)
        return max(now + step_s, self._changed_at + self._pace_s - step_s)

    def _get_playlist(self) -> Playlist:
        for _ in range(_DEEPEST):
            playlist = self._fetcher.get_playlist(self._url)
            if not playlist.offers:
                return playlist
            self._check(playlist.urls)
            self._url = choose_variant(playlist.offers).url
        raise NoStream(f"{self._url}: a master playlist that leads to another master playlist")

    def _check(self, urls: set[str]) -> None:
        """Refuse a playlist for any address in it; raises UnsafeURL."""
        for url in urls:
            read_host(url)
            parts = urlsplit(url)
            server = f"{parts.scheme}://{parts.netloc}"
            if server not in self._checked:
                self._policy.check(server)
                self._checked.add(server)

    def _queue(self, playlist: Playlist) -> None:
        if self._first_load:
            self._check(playlist.urls)
        if playlist.ended and self._first_load and self._recording.last is None:
            raise NotLive(f"{self._url}: the stream has ended")
        entries = playlist.entries
        if not entries:
            return
        self._target_s = max(0.5, playlist.target_s or 2.0)
        self._fetcher.timeout_s = min(max(2 * self._target_s, 1.0), 6.0)
        listed = {entry.url for entry in entries}
        for item in self._items:
            item.listed = item.entry.url in listed
        self._watch_wobble(entries)
        new = self._find_new(entries)
        if not new:
            return
        self._check(
            {entry.url for entry in new}
            | {entry.map_url for entry in new if entry.map_url}
            | {entry.key.url for entry in new if entry.key}
        )
        self._changed_at = time.monotonic()
        published = datetime.now(UTC)
        ahead = timedelta(0)
        items: list[_Item] = []
        before = self._position.sequence if self._position else None
        for entry in reversed(new):
            ahead += timedelta(seconds=entry.duration_s)
            items.append(
                _Item(entry=entry, arrival=published - ahead, follows=True, repeats=before is None)
            )
        items[-1].follows = before is not None and new[0].sequence == before + 1
        self._items += reversed(items)
        position = self._position or _Position(sequence=0, end=None)
        position.sequence, position.end = entries[-1].sequence, entries[-1].end
        position.seen += [_name(entry) for entry in new]
        self._position = position
        self._last_s = new[-1].duration_s or self._target_s

    def _find_new(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Return the entries that were not listed before, whatever the source numbers them."""
        position, last = self._position, self._recording.last
        if position is None:
            if last is None or last.start_is_estimated:
                return entries[-1:]
            missed = tuple(e for e in entries if e.end and e.end > last.end + SHORTEST)
            return missed or (() if entries[-1].date else entries[-1:])
        newest = entries[-1].sequence
        if newest >= position.sequence:
            self._back_newest = None
            new = tuple(e for e in entries if e.sequence > position.sequence)
            # Numbers that began anew may have overtaken ours while nobody looked.
            early = tuple(
                e
                for e in entries
                if e.sequence <= position.sequence
                and position.end
                and e.date
                and e.date >= position.end - SHORTEST
                and _name(e) not in position.seen
            )
            return early + new
        # An old copy of the playlist, or numbers that began anew.
        if self._back_newest is not None and newest > self._back_newest:
            new = tuple(e for e in entries if e.sequence > self._back_newest)
        else:
            new = tuple(
                e
                for e in entries
                if (
                    e.end > position.end + SHORTEST
                    if e.end and position.end
                    else _name(e) not in position.seen
                )
            )
        self._back_newest = None if new else newest
        if new:
            _log.warning("the source numbers its segments anew, from %d", new[0].sequence)
        return new

    def _watch_wobble(self, entries: tuple[Entry, ...]) -> None:
        """Note by how much dates fall short of the durations before them."""
        for before, after in pairwise(entries):
            if before.end and after.date and not after.discontinuity:
                early = before.end - after.date
                if self._wobble < early < SHORTEST:
                    self._wobble = early

    # -- the segments

    def _due(self) -> _Item | None:
        now = time.monotonic()
        for n, item in enumerate(self._items):
            if n >= _AHEAD:
                return None
            if item.path is None and item.try_at <= now and not item.entry.missing:
                return item
        return None

    def _fetch(self, item: _Item) -> None:
        path = self._recording.directory / f"{self._name}-{self._written:06d}.tmp"
        self._written += 1
        try:
            head_bytes = self._pieces.fetch(item.entry, path)
            extent = measure(path, fragmented=head_bytes is not None)
            if _is_cut_off(extent, item.entry) and item.unreadable < _MOST_UNREADABLE - 1:
                raise UnreadableMedia(f"{_name(item.entry)} ends before its time")
        except UnsafeURL:
            path.unlink(missing_ok=True)
            raise
        except (CaptureError, OSError) as e:
            path.unlink(missing_ok=True)
            if isinstance(e, OSError):
                raise
            self._fetch_failed(item, e)
            return
        self._forbidden = 0
        suffix = ".ts" if head_bytes is None else ".mp4"
        item.head_bytes = head_bytes
        item.path, item.extent = path.rename(path.with_suffix(suffix)), extent

    def _fetch_failed(self, item: _Item, error: CaptureError) -> None:
        now = time.monotonic()
        item.tries += 1
        item.failing_since = item.failing_since or now
        item.error = str(error)
        item.try_at = now + min(0.1 * 2**item.tries, self._target_s, 2.0)
        item.unreadable += isinstance(error, (UnreadableMedia, NoStream))
        status = getattr(error, "status", None)
        item.missing += status in (404, 410)
        self._fail(error)
        if status == 403:
            self._forbidden += 1
            if self._forbidden >= _MOST_FORBIDDEN:
                self.ended = f"the source refused {self._forbidden} times"

    def _fail(self, error: CaptureError) -> None:
        if self._error is None:
            _log.warning("%s", error)
        self._error = str(error)

    def _is_lost(self, item: _Item) -> bool:
        """Tell whether to do without a segment that could not be fetched."""
        if item.entry.missing:
            item.error = "the source says that it is missing"
            return True
        if item.unreadable >= _MOST_UNREADABLE or (item.tries and not item.listed):
            return True
        others = any(other.path is not None for other in self._items)
        failing_s = time.monotonic() - (item.failing_since or time.monotonic())
        if item.missing >= _MOST_MISSING and others and failing_s > 2 * self._target_s:
            return True
        return others and failing_s > max(_HELD_UP_S, 6 * self._target_s)

    def _record(self, why: str | None) -> list[Segment | Gap]:
        events: list[Segment | Gap] = []
        while self._items:
            item = self._items[0]
            if item.path is None and not self._is_lost(item):
                break
            self._items.popleft()
            if item.path is None or item.extent is None:
                _log.warning("a segment is lost: %s", item.error)
                self._dropped.append(item.error)
                del self._dropped[:-3]
                continue
            reasons = dict.fromkeys(filter(None, [why, *self._dropped, self._error]))
            start, end, estimated = self._dates(item, item.extent)
            try:
                events += self._recording.add(
                    item.path,
                    item.extent,
                    start=start,
                    end=end,
                    estimated=estimated,
                    why="; ".join(reasons) or None,
                )
            except OSError:
                item.path.unlink(missing_ok=True)
                raise
            self._dropped.clear()
            self._error = None
            why = None
            self._recorded_at = time.monotonic()
            self._save(item, item.path, end - start)
        return events

    def _save(self, item: _Item, path: Path, duration: timedelta) -> None:
        entry = item.entry
        state = {
            "sequence": entry.sequence,
            "end": entry.end.isoformat() if entry.end else None,
            "name": _name(entry),
            "recorded": self._recording.last.end.isoformat() if self._recording.last else None,
        }
        self._recording.save("position.json", json.dumps(state))
        if not path.exists():
            return
        lines = [f"#EXTINF:{duration.total_seconds():.6f},"]
        if entry.discontinuity or not item.follows or item.head_bytes is not None:
            lines.insert(0, "#EXT-X-DISCONTINUITY")
        if item.head_bytes:
            size = path.stat().st_size
            lines.insert(0, f'#EXT-X-MAP:URI="{path.name}",BYTERANGE="{item.head_bytes}@0"')
            lines.append(f"#EXT-X-BYTERANGE:{size - item.head_bytes}@{item.head_bytes}")
        self._listed.append("\n".join([*lines, path.name]))
        target = max(1, round(max(self._target_s, duration.total_seconds())))
        first = self._written - len(self._listed)
        text = [f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}"]
        text += [f"#EXT-X-MEDIA-SEQUENCE:{first}", *self._listed, ""]
        self._recording.save(f"{self._name}.m3u8", "\n".join(text))

    # -- the dates

    def _dates(self, item: _Item, extent: Extent) -> tuple[datetime, datetime, bool]:
        """Return the dates of start and end, and whether they are estimated.

        The source dates a segment's first frame (RFC 8216, 4.3.2.6). Without a date, segments
        follow each other; the first, and one after something missing, by when it was published.
        """
        last, entry = self._recording.last, item.entry
        media = timedelta(seconds=(extent.end - extent.first) / TICKS_PER_S)
        usual = timedelta(seconds=entry.duration_s) or media
        hole = timedelta(seconds=(max(3 * extent.interval, extent.longest) / TICKS_PER_S) + 0.1)
        length = media if media < usual - hole else usual
        if entry.date is None:
            if abs(media - usual) < timedelta(seconds=0.6):
                length = media
            follows = item.follows and not entry.discontinuity and not self._dropped
            start = item.arrival
            if last is not None:
                start = last.end if follows else max(start, last.end)
            return whole_ms(start), whole_ms(start + length), True
        start = entry.date + (self._shift if item.repeats else self._true_shift(entry.date))
        if length == usual:
            interval = timedelta(seconds=extent.interval / TICKS_PER_S)
            length -= min(self._wobble, interval * 0.9)
        return whole_ms(start), whole_ms(start + length), self._shift != timedelta(0)

    def _true_shift(self, date: datetime) -> timedelta:
        """Return by how much the source's clock is wrong, going by what was recorded."""
        last = self._recording.last
        if last is None:
            return self._shift
        credible = timedelta.max
        if self._recorded_at is not None:
            credible = _CREDIBLE_JUMP + timedelta(seconds=time.monotonic() - self._recorded_at)
        for shift in (timedelta(0), self._shift):
            if -SHORTEST < date + shift - last.end <= credible:
                self._shift = shift
                return shift
        self._shift = last.end - date
        _log.warning("the source's clock jumped by %s", -self._shift)
        return self._shift


def _load_position(recording: Recording) -> _Position | None:
    """Return where the last segment was in the source, if this engine recorded it."""
    try:
        text = (recording.directory / "position.json").read_text(encoding="utf-8")
        state = json.loads(text)
        end = datetime.fromisoformat(state["end"]) if state["end"] else None
        position = _Position(sequence=int(state["sequence"]), end=end)
        position.seen.append(str(state["name"]))
    except (OSError, KeyError, ValueError, TypeError):
        return None
    last = recording.last
    return position if last and state.get("recorded") == last.end.isoformat() else None


def _is_cut_off(extent: Extent, entry: Entry) -> bool:
    """Tell whether much less came than the playlist says, with room for durations in whole s."""
    media_s = (extent.end - extent.first) / TICKS_PER_S
    slack_s = 3 * extent.interval / TICKS_PER_S + (0.5 if entry.duration_s % 1 == 0 else 0.0)
    return media_s < 0.75 * entry.duration_s - slack_s


def _name(entry: Entry) -> str:
    """Return what tells an entry from others, though its address be signed anew."""
    return f"{urlsplit(entry.url).path}@{entry.media.offset}"
