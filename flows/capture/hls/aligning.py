"""How far a playlist has advanced since it was last read, by names, dates and numbers together.

Each may be wrong: addresses are signed anew, dates are reset, numbers are missing, start over or
have their own steps. So a shift counts only if all that both playlists have agrees with it.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import unquote, urlsplit

from flows.capture.playlists.playlist import Entry

_MAX_NAME_CHARS: Final = 200
_BETWEEN_PARTS: Final = re.compile(r"[^A-Za-z0-9]+")
_STEPS_OFF: Final = 0.25
"""Share by which dates may differ from the number of segments between them."""
_EXACT: Final = timedelta(milliseconds=100)
"""Most that dates which follow each other are apart: lengths are rounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A listed segment, as it is remembered.

    name: of `name_of`. date: of its beginning, in whole hundredths of a second.
    """

    name: str
    number: int
    date: datetime | None = None

    @property
    def last_name(self) -> str:
        """The last part of the address, which stays when its path is signed anew."""
        return self.name.rpartition("/")[2]


def known_of(entry: Entry) -> Known:
    """Return what is remembered of an entry."""
    date = entry.date and entry.date.replace(microsecond=entry.date.microsecond // 10_000 * 10_000)
    return Known(name=name_of(entry), number=entry.sequence, date=date)


def name_of(entry: Entry) -> str:
    """Return an entry's name, which stays when its address is signed anew.

    A thousand of them are kept, so a long one is shortened and gets a hash.
    """
    path = urlsplit(entry.url).path + (f"?{entry.query}" if entry.query else "")
    if len(path) > _MAX_NAME_CHARS:
        digest = sha256(path.encode(errors="surrogatepass")).hexdigest()
        path = f"{path[:_MAX_NAME_CHARS]}...{digest[:32]}"
    return f"{path}@{entry.media.offset}"


def first_after(entries: Sequence[Entry], end: datetime | None) -> int | None:
    """Return the index of the first entry after a date at which one ends; None if none does.

    For segments whose names and numbers are both new, while their dates go on.
    """
    if end is None:
        return None
    for n, entry in enumerate(entries):
        if entry.date is not None and abs(entry.date - end) < _EXACT:
            return n
    last = entries[-1].end if entries else None
    return len(entries) if last is not None and abs(last - end) < _EXACT else None


class Alignment:
    """Keeps the newest playlist, and finds by how many segments another is ahead of it."""

    def __init__(self, window: Sequence[Known] = ()) -> None:
        """Continue after these segments, in order."""
        self._window = list(window)
        self.numbers_hold: bool | None = None
        """Whether the source's numbers advance with its segments; None while unknown."""
        self._names_stay = self._numbers_move = False
        self._looked_at: list[str] = []

    def keep(self, window: Sequence[Known]) -> None:
        """Make this the playlist that the next one is compared with."""
        self._window = list(window)

    def __len__(self) -> int:
        """Return how many segments the newest playlist lists."""
        return len(self._window)

    def shift(self, entries: Sequence[Known], *, since_s: float, step_s: float) -> int | None:
        """Return the first entry's index in the kept playlist: how many have left it since.

        Negative for an older copy; None if unknown. since_s: age of the kept playlist; step_s:
        length of its segments.
        """
        old = self._window
        if not old or not entries:
            return None
        names = [e.name for e in entries]
        self._names_stay |= names == self._looked_at
        self._looked_at = names
        by_number = entries[0].number - old[0].number
        by_name = self._by_name(entries, since_s=since_s, step_s=step_s)
        by_date = _same([e.date for e in old], [e.date for e in entries])
        found = by_name
        if by_name is not None and by_name != by_number:
            # The source reused names while the playlist was not read.
            has_advanced = by_number > by_name and since_s > 0.75 * step_s * by_number
            moved = self._moved_by(entries, step_s)
            is_near = moved is not None and abs(moved - by_number) <= _STEPS_OFF * by_number
            agrees = by_date == by_number or is_near or (moved is None and len(old) == 1)
            has_advanced |= is_near and len(old) == 1
            if has_advanced and (agrees or self.numbers_hold):
                return None if by_number >= len(old) else by_number
            self.numbers_hold = False
        elif by_name is not None and by_name > 0:
            self.numbers_hold = True
        elif by_name == 0:
            moved = self._moved_by(entries, step_s)
            if moved and moved > 1 - _STEPS_OFF and not self.numbers_hold and len(old) == 1:
                return None  # Always the same name: its media tells (`Listing.unsure`).
        self._numbers_move |= by_number != 0 or len(entries) > len(old)
        if found is None and self.numbers_hold is not True and by_date is not None:
            found = by_date if by_date >= 0 or self.numbers_hold is False else None
        if found is None and self.numbers_hold is not False and 0 <= by_number < len(old):
            # New names: signed anew, or other segments with the same numbers.
            is_dated = any(e.date for e in entries)
            is_other = any(map(_are_two_parts, old[by_number:], entries))
            if is_other or not (is_dated or self._can_be(entries, by_number)):
                self.numbers_hold = False
            elif by_date == by_number or not is_dated:
                found = by_number
        if found is None and self.numbers_hold is False and by_date is None:
            found = _overlap([e.name for e in old], [e.name for e in entries])
        return found

    def _by_name(self, entries: Sequence[Known], *, since_s: float, step_s: float) -> int | None:
        """Return the shift by whole names, by their last parts, or by one part that is stable."""
        old = self._window
        for names in (
            ([e.name for e in old], [e.name for e in entries]),
            ([e.last_name for e in old], [e.last_name for e in entries]),
        ):
            found = _same(*names)
            if found is not None:
                return found
        if any(e.date for e in entries):
            return None
        shifts = {_same(*parts) for parts in _parts_of(old, entries)} - {None}
        found = shifts.pop() if len(shifts) == 1 else None
        # A part may be a time of day in seconds, which comes again.
        is_timely = found is not None and abs(found * step_s - since_s) <= step_s * len(old)
        return found if is_timely else None

    def _moved_by(self, entries: Sequence[Known], step_s: float) -> float | None:
        """Return by how many segments dates have moved; None without dates."""
        before, now = self._window[0].date, entries[0].date
        if before is None or now is None:
            return None
        return (now - before).total_seconds() / step_s

    def _can_be(self, entries: Sequence[Known], by: int) -> bool:
        """Return whether names allow that the playlist has advanced by so many segments."""
        if by == 0 and self._names_stay and not self._numbers_move:
            return False  # Names stay, and numbers never move: other segments.
        old, new = self._window[by:], entries[: len(self._window) - by]
        are_same = [a.name == b.name for a, b in zip(old, new, strict=False)]
        known = {e.name for e in self._window}
        return all(are_same) or not any(e.name in known for e in entries)


def _parts_of(
    old: Sequence[Known], new: Sequence[Known]
) -> list[tuple[list[Hashable], list[Hashable]]]:
    """Return, for each part of the names, those of the old and of the new segments.

    Empty if names do not all have as many parts, and for single segments, in which it is not seen
    which part tells them from others.
    """
    if min(len(old), len(new)) < 2:
        return []
    parts = [_BETWEEN_PARTS.split(unquote(e.name)) for e in (*old, *new)]
    if len({len(each) for each in parts}) != 1:
        return []
    return [([*part[: len(old)]], [*part[len(old) :]]) for part in zip(*parts, strict=True)]


def _overlap(old: Sequence[Hashable], new: Sequence[Hashable]) -> int | None:
    """Return the smallest shift at which all common places agree, though keys are used again."""
    for shift in range(len(old)):
        n = min(len(old) - shift, len(new))
        if list(old[shift : shift + n]) == list(new[:n]):
            return shift
    return None


def _are_two_parts(a: Known, b: Known) -> bool:
    """Return whether these are different parts of one file, which no new signature makes of one."""
    return a.name != b.name and a.name.rpartition("@")[0] == b.name.rpartition("@")[0]


def _same(old: Sequence[Hashable], new: Sequence[Hashable]) -> int | None:
    """Return the index in `old` of the first of `new`, by common keys; None if they disagree."""
    places = {key: n for n, key in enumerate(old)}
    if None in places or len(places) < len(old) or len(set(new)) < len(new):
        return None
    shift = next(
        (places[new[n]] - n for n in range(len(new) - 1, -1, -1) if new[n] in places), None
    )
    if shift is None:
        return None
    # If the distance of common keys differs, names were reused.
    in_step = all(
        new[n] == old[n + shift] if 0 <= n + shift < len(old) else new[n] not in places
        for n in range(len(new))
    )
    return shift if in_step else None
