"""How far a playlist has advanced since it was last read, by names, dates and numbers together.

Each may be wrong: addresses are signed anew, dates are reset, numbers are missing, start over or
have their own steps. So a shift counts only if all that both playlists have agrees with it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from flows.capture.playlists.playlist import Entry

_MAX_NAME_CHARS: Final = 200


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


class Alignment:
    """Keeps the newest playlist, and finds by how many segments another is ahead of it."""

    def __init__(self, window: Sequence[Known] = ()) -> None:
        """Continue after these segments, in order."""
        self._window = list(window)
        self.numbers_hold: bool | None = None
        """Whether the source's numbers advance with its segments; None while unknown."""

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
        by_number = entries[0].number - old[0].number
        by_name = _same([e.name for e in old], [e.name for e in entries])
        if by_name is None:
            by_name = _same([e.last_name for e in old], [e.last_name for e in entries])
        by_date = _same([e.date for e in old], [e.date for e in entries])
        found = by_name
        if by_name is not None and by_name != by_number:
            # The source reused names while the playlist was not read.
            has_advanced = by_number > by_name and since_s > 0.75 * step_s * by_number
            if has_advanced and (by_date == by_number or self.numbers_hold):
                return None if by_number >= len(old) else by_number
            self.numbers_hold = False
        elif by_name is not None and by_name > 0:
            self.numbers_hold = True
        if found is None and self.numbers_hold is not True and by_date is not None:
            found = by_date if by_date >= 0 or self.numbers_hold is False else None
        if found is None and self.numbers_hold is not False and 0 <= by_number < len(old):
            # New names: signed anew, or other segments with the same numbers.
            same = by_date == by_number or not any(e.date for e in entries)
            if any(map(_are_two_parts, old[by_number:], entries)):
                same = self.numbers_hold = False
            found = by_number if same else None
        return found


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
