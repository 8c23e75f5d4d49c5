"""What of a source's playlist was not listed before, whatever the source numbers it."""

import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from flows.capture.playlist import Entry
from flows.capture.recorded.recording import SHORTEST, Recording
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

    def __post_init__(self) -> None:
        """Check the dates."""
        if any(date and date.utcoffset() is None for date in (self.end, self.recorded)):
            raise ValueError("a date without a zone")


_SAVED: Final = TypeAdapter(_Saved)
_FILE: Final = "position.json"

_MOST_SAVED: Final = 64
"""So many names of recorded segments the next run is told."""

_LONGEST_NAME: Final = 200


class Listing:
    """Follows a source's playlist from where the recording stopped."""

    def __init__(self, recording: Recording) -> None:
        """Read where the last segment was in the source, if this engine recorded it."""
        self._recording = recording
        self._position = _load(recording)
        self._dated: deque[tuple[str, datetime | None]] = deque(maxlen=1000)
        self._back_newest: int | None = None
        self._looked = False
        self._newest: Entry | None = None

    @property
    def sequence(self) -> int | None:
        """The source's number of the newest segment; None before the first."""
        return self._position.sequence if self._position else None

    def find_new(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Return the entries that were not listed before; `entries` holds at least one."""
        position, last = self._position, self._recording.last
        if position is None:
            if last is None or last.start_is_estimated:
                return entries[-1:]
            missed = tuple(e for e in entries if e.end and e.end > last.end + SHORTEST)
            return missed or (() if entries[-1].date else entries[-1:])
        if not self._looked:
            self._looked = True
            # What an earlier run left behind is not to be mistaken for new when the clock jumps.
            # Names do not tell: a new address may be a part of each.
            same = any(e.sequence == position.sequence and e.end == position.end for e in entries)
            left = [
                e
                for e in entries
                if e.sequence <= position.sequence
                and e.date
                and position.end
                and (same or e.date < position.end - SHORTEST)
            ]
            position.seen += map(name_of, left)
            self._dated += [(name_of(e), e.date) for e in left]
        seen = frozenset(position.seen)
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
                and name_of(e) not in seen
            )
            return early + new
        # An old copy of the playlist, or numbers that began anew.
        if self._back_newest is not None and newest > self._back_newest:
            # An old copy may grow, too: what is in it was listed before, with the same date.
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
                    e.end > position.end + SHORTEST
                    if e.end and position.end
                    else name_of(e) not in seen
                )
            )
        self._back_newest = None if new else newest
        if new:
            _log.warning("the source numbers its segments anew, from %d", new[0].sequence)
        return new

    def advance(self, entries: tuple[Entry, ...], new: tuple[Entry, ...]) -> None:
        """Go on after these, of which some are new."""
        if self._position is None:
            # What is older than the first that is recorded is not to be mistaken for new.
            new = entries
        position = self._position or _Position(sequence=0, end=None)
        position.sequence, position.end = entries[-1].sequence, entries[-1].end
        position.seen += [name_of(entry) for entry in new]
        self._dated += [(name_of(entry), entry.date) for entry in new]
        self._position = position

    def recorded(self, entry: Entry) -> None:
        """Take note that this entry is recorded."""
        self._newest = entry

    def save(self) -> None:
        """Write down what is recorded, if that is not; waits for the disk, and raises OSError."""
        entry, last = self._newest, self._recording.last
        if entry is None or last is None:
            return
        names = list(self._position.seen) if self._position else []
        # Those behind it are queued, and not recorded.
        names = names[: names.index(name_of(entry))] if name_of(entry) in names else []
        saved = _Saved(
            name=name_of(entry),
            sequence=entry.sequence,
            end=entry.end,
            recorded=last.end,
            seen=tuple(names[-_MOST_SAVED:]),
        )
        write_whole(self._recording.directory / _FILE, _SAVED.dump_json(saved).decode())
        self._newest = None


def name_of(entry: Entry) -> str:
    """Return what tells an entry from others, though its address be signed anew.

    A thousand of them are kept, so a long one is shortened, to what still tells it from others.
    """
    path = urlsplit(entry.url).path
    if len(path) > _LONGEST_NAME:
        digest = sha256(path.encode(errors="surrogatepass")).hexdigest()
        path = f"{path[:_LONGEST_NAME]}...{digest[:32]}"
    return f"{path}@{entry.media.offset}"


def _load(recording: Recording) -> _Position | None:
    saved, last = read_state(recording.directory / _FILE, _SAVED), recording.last
    if saved is None or last is None or saved.recorded != last.end:
        return None
    position = _Position(sequence=saved.sequence, end=saved.end)
    position.seen += [*saved.seen, saved.name]
    return position
