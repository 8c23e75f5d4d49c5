"""Finds the segments of a playlist that were not listed before, however they are numbered."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from flows.capture.hls.aligning import Alignment, Known, first_after, known_of, name_of
from flows.capture.playlists.entries import published_in
from flows.capture.playlists.playlist import Entry
from flows.capture.recorded.recording import MIN_GAP, Recording
from flows.capture.state import read_state, write_whole

_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class _Position:
    """Where in the source the newest listed segment was.

    end: the date of its end by the source's clock, None without one.
    """

    sequence: int
    end: datetime | None
    seen: deque[str] = field(default_factory=lambda: deque(maxlen=1000))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved:
    """Where the newest recorded segment was: its name, number and end in the source.

    recorded: its end in the recording. seen: names of those before it.
    """

    name: str
    sequence: int
    end: datetime | None
    recorded: datetime
    seen: tuple[str, ...] = ()
    numbers_hold: bool | None = None

    def __post_init__(self) -> None:
        """Check the dates."""
        if any(date and date.utcoffset() is None for date in (self.end, self.recorded)):
            raise ValueError("a date without a zone")


_SAVED: Final = TypeAdapter(_Saved)
_FILE: Final = "position.json"

_MAX_SAVED: Final = 64
"""Names of recorded segments that are passed on to the next run."""


class Listing:
    """Follows a source's playlist from where the recording stopped."""

    def __init__(self, recording: Recording, *, off_air_at: float = 0.0) -> None:
        """Read where the last segment was in the source, if this engine recorded it."""
        self._recording, self._off_air_at = recording, off_air_at
        self._position, saved = _load(recording)
        window = _window_of(self._position)
        self._alignment = Alignment(window)
        self._alignment.numbers_hold = saved.numbers_hold if saved else None
        self._place, self._next_place = 0, len(window)
        self._current: dict[int, Entry] = {}
        self._known: list[Known] = []
        self._looked_at = time.monotonic()
        self.shift = saved.recorded - saved.end if saved and saved.end else None
        """By how much the recording's dates were later than the source's; None if not known."""
        self.follows = False
        """Whether the newest entries directly follow those listed before."""
        self.unsure = False
        """Whether the newest entries may have been listed before, under other names."""
        self._dated: deque[tuple[str, datetime | None]] = deque(maxlen=1000)
        self._back_newest: int | None = None
        self._looked = False
        self._newest: Entry | None = None

    @property
    def sequence(self) -> int | None:
        """The source's number of the newest segment; None before the first."""
        return self._position.sequence if self._position else None

    def places(self) -> Iterable[tuple[int, Entry]]:
        """Return the newest playlist's entries by their places among all ever listed."""
        return self._current.items()

    def at(self, place: int) -> Entry | None:
        """Return what the newest playlist lists there, under its newest address."""
        return self._current.get(place)

    def find_new(self, entries: tuple[Entry, ...], *, numbered: bool = True) -> tuple[Entry, ...]:
        """Return the entries that were not listed before; `entries` holds at least one.

        numbered: the playlist has numbers of its own (EXT-X-MEDIA-SEQUENCE).
        """
        known = self._known = [known_of(entry) for entry in entries]
        if not numbered:
            self._alignment.numbers_hold = False  # each playlist begins at 0
        step_s = entries[-1].duration_s or 1.0
        since_s = time.monotonic() - self._looked_at
        shift = self._alignment.shift(known, since_s=since_s, step_s=step_s)
        first = self._next_place if shift is None else self._place + shift
        self._current = dict(enumerate(entries, first))
        before_is_known = self._position is not None
        self.unsure = False
        if shift is not None and before_is_known:
            self._back_newest = None
            self._looked = True
            self.follows = True
            return entries[max(0, len(self._alignment) - shift) :]
        unreliable = self._alignment.numbers_hold is False or not numbered
        may_all_be_new = since_s > step_s * len(entries)
        if unreliable:
            new = self._new_ones(entries, may_all_be_new=may_all_be_new)
        else:
            new = self._by_numbers(entries)
        is_undated = not any(e.date for e in entries)
        self.unsure = unreliable and before_is_known and (is_undated or len(entries) == 1)
        before = self.sequence
        self.follows = bool(new) and before is not None and new[0].sequence == before + 1
        self.follows &= not unreliable
        return new

    def _new_ones(self, entries: tuple[Entry, ...], *, may_all_be_new: bool) -> tuple[Entry, ...]:
        """Return new entries of a playlist that has none in common with the one before.

        may_all_be_new: the one before is so old that all its names may have been used again.
        """
        position = self._position
        if position is None:
            return self._by_numbers(entries)
        seen = frozenset(position.seen)
        new = tuple(
            entry
            for entry in entries
            if (
                entry.end > position.end + MIN_GAP
                if entry.end and position.end
                else name_of(entry) not in seen
            )
        )
        is_dated = entries[-1].end and position.end
        return entries if not new and may_all_be_new and not is_dated else new

    def _by_numbers(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        position, last = self._position, self._recording.last
        if position is None:
            if last is None and self._off_air_at:
                return published_in(entries, time.monotonic() - self._off_air_at)
            if last is None or last.start_is_estimated:
                return entries[-1:]
            missed = tuple(e for e in entries if e.end and e.end > last.end + MIN_GAP)
            return missed or (() if entries[-1].date else entries[-1:])
        if not self._looked:
            self._looked = True
            # Segments of an earlier run must not seem new when the clock jumps. Names don't
            # identify them: each may have a new part of the URL.
            same = any(e.sequence == position.sequence and e.end == position.end for e in entries)
            left = [
                e
                for e in entries
                if e.sequence <= position.sequence
                and e.date
                and position.end
                and (same or e.date < position.end - MIN_GAP)
            ]
            position.seen += map(name_of, left)
            self._dated += [(name_of(e), e.date) for e in left]
        seen = frozenset(position.seen)
        newest = entries[-1].sequence
        if newest >= position.sequence:
            self._back_newest = None
            jumped = entries[0].sequence > position.sequence + 1
            if jumped and (n := first_after(entries, position.end)) is not None:
                return entries[n:]  # by another packager: the dates go on
            new = tuple(e for e in entries if e.sequence > position.sequence)
            # Numbers that started over may have passed the known ones between two reads.
            early = tuple(
                e
                for e in entries
                if e.sequence <= position.sequence
                and position.end
                and e.date
                and e.date >= position.end - MIN_GAP
                and name_of(e) not in seen
            )
            return early + new
        # An old copy of the playlist, or numbers that started over.
        if self._back_newest is not None and newest > self._back_newest:
            # An old copy may grow too: its entries were listed before, with the same date.
            new = tuple(
                e
                for e in entries
                if e.sequence > self._back_newest
                and (e.date is None or (name_of(e), e.date) not in self._dated)
            )
        else:
            new = tuple(
                e
                for e in entries
                if (
                    e.end > position.end + MIN_GAP
                    if e.end and position.end
                    else name_of(e) not in seen
                )
            )
        self._back_newest = None if new else newest
        if new:
            _log.warning("the source's segment numbers started over, from %d", new[0].sequence)
        return new

    def advance(self, entries: tuple[Entry, ...], new: tuple[Entry, ...]) -> None:
        """Make the entries given to `find_new` the newest playlist; new: what it returned."""
        if self._position is None:
            # Entries before the first recorded one must not seem new later.
            new = entries
        position = self._position or _Position(sequence=0, end=None)
        position.sequence, position.end = entries[-1].sequence, entries[-1].end
        names = [name_of(entry) for entry in new]
        position.seen += names
        self._dated += [(name, entry.date) for name, entry in zip(names, new, strict=True)]
        self._position = position
        self._place = min(self._current, default=0)
        self._next_place = self._place + len(entries)
        self._looked_at = time.monotonic()
        self._alignment.keep(self._known)

    def recorded(self, entry: Entry) -> None:
        """Take note that this entry is recorded."""
        self._newest = entry

    def save(self) -> None:
        """Save the newest recorded position, if it is new; waits for the disk; raises OSError."""
        entry, last = self._newest, self._recording.last
        if entry is None or last is None:
            return
        names = list(self._position.seen) if self._position else []
        # Those after it are queued, not recorded.
        names = names[: names.index(name_of(entry))] if name_of(entry) in names else []
        saved = _Saved(
            name=name_of(entry),
            sequence=entry.sequence,
            end=entry.end,
            recorded=last.end,
            seen=tuple(names[-_MAX_SAVED:]),
            numbers_hold=self._alignment.numbers_hold,
        )
        write_whole(self._recording.directory / _FILE, _SAVED.dump_json(saved).decode())
        self._newest = None


def _load(recording: Recording) -> tuple[_Position | None, _Saved | None]:
    saved, last = read_state(recording.directory / _FILE, _SAVED), recording.last
    if saved is None or last is None or saved.recorded != last.end:
        return None, None
    position = _Position(sequence=saved.sequence, end=saved.end)
    position.seen += [*saved.seen, saved.name]
    return position, saved


def _window_of(position: _Position | None) -> list[Known]:
    """Return what is known of the segments up to a position, as if each had the next number."""
    if position is None:
        return []
    names = list(dict.fromkeys(reversed(position.seen)))[::-1]
    first = position.sequence - len(names) + 1
    return [Known(name=name, number=first + n) for n, name in enumerate(names)]
