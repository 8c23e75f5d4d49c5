"""Corrects lengths and dates of a playlist's entries where single ones can't be right."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from flows.capture.playlists.entries import Entry

_MAX_SEGMENT: Final = timedelta(seconds=600)
_MAX_USUAL_S: Final = 12.0
"""Longest target duration that is believed, if no segment is longer than a third of it."""

_FEW: Final = 3
"""With fewer known lengths, their median is not used."""


def target_of(said_s: float, entries: Sequence[Entry]) -> float:
    """Return a playlist's target duration in seconds, which says when to reload it.

    A playlist whose target is many times as long as its segments would be reloaded too late: what
    it has listed meanwhile has left it again.
    """
    return min(said_s, max(_MAX_USUAL_S, 3 * max((e.duration_s for e in entries), default=0.0)))


def oldest_first(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries; in reverse, with their numbers, if each is dated before the last one.

    Some servers list the newest segment first.
    """
    dates = [entry.date for entry in entries]
    if len(dates) < _FEW or not all(b is not None and a and b < a for a, b in pairwise(dates)):
        return entries
    numbers = [entry.sequence for entry in entries]
    turned = zip(reversed(entries), numbers, strict=True)
    return [replace(entry, sequence=number) for entry, number in turned]


def timed(entries: Sequence[Entry], target_s: float) -> tuple[Entry, ...]:
    """Return the entries with credible lengths, and with dates derived from those given.

    A length of 0, or of several times the median, is replaced: by the difference of the dates
    around it, else by the median. Dates are extended by adding up lengths, forward from each tag to
    the next (RFC 8216, 4.3.2.6) and backward before the first, but not across a discontinuity.
    """
    known = [entry.duration_s for entry in entries if entry.duration_s > 0]
    usual_s = median(known) if known else target_s
    if len(known) < _FEW and 0 < 3 * target_s < usual_s:
        usual_s = target_s
    most_s = max(1.5 * target_s, 3 * usual_s)
    found: list[Entry] = []
    for n, entry in enumerate(entries):
        length_s = entry.duration_s
        if not 0 < length_s <= most_s:
            length_s = usual_s
            after = entries[n + 1] if n + 1 < len(entries) else None
            if after and after.date and entry.date and not after.discontinuity:
                step = after.date - entry.date
                length_s = step.total_seconds() if timedelta(0) < step < _MAX_SEGMENT else usual_s
        before = found[-1] if found else None
        date = entry.date
        if date is None and before is not None and not entry.discontinuity:
            date = before.end
        if date is not entry.date or length_s != entry.duration_s:
            entry = replace(entry, duration_s=length_s, date=date)
        found.append(entry)
    after = None
    for n in range(len(found) - 1, -1, -1):
        entry = found[n]
        if entry.date is None and after is not None and after.date and not after.discontinuity:
            entry = replace(entry, date=after.date - timedelta(seconds=entry.duration_s))
            found[n] = entry
        after = entry
    return tuple(found)
