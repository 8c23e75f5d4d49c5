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

_ABSURD: Final = 60
"""So many times the target duration: lengths in another unit than seconds."""

_MAX_ROUNDING_S: Final = 0.501
"""Lengths may be too short by rounding; by more, something is missing between the dates instead."""

_WAVERING: Final = 0.05
"""Share by which lengths may differ from dates that are rounded or vary."""

_OTHER: Final = 0.25
"""The same where each segment has a date: these count more than lengths anyway."""


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
    around it, else by the median. Where dates are given now and then, lengths are scaled so that
    they add up to the time between two of them. Dates are extended by adding up lengths, forward
    from each tag to the next (RFC 8216, 4.3.2.6) and backward before the first, but not across a
    discontinuity.
    """
    entries = _scaled(_with_lengths(entries, target_s))
    found: list[Entry] = []
    for entry in entries:
        before = found[-1] if found else None
        if entry.date is None and before is not None and not entry.discontinuity and before.end:
            entry = replace(entry, date=before.end)
        found.append(entry)
    after = None
    for n in range(len(found) - 1, -1, -1):
        entry = found[n]
        if entry.date is None and after is not None and after.date and not after.discontinuity:
            entry = replace(entry, date=after.date - timedelta(seconds=entry.duration_s))
            found[n] = entry
        after = entry
    return tuple(found)


def _with_lengths(entries: Sequence[Entry], target_s: float) -> list[Entry]:
    """Return the entries with absurd lengths replaced."""
    most_s = min(_MAX_SEGMENT.total_seconds(), _ABSURD * target_s or float("inf"))
    known = [entry.duration_s for entry in entries if 0 < entry.duration_s <= most_s]
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
            entry = replace(entry, duration_s=length_s)
        found.append(entry)
    return found


def _scaled(entries: list[Entry]) -> list[Entry]:
    """Return the entries with lengths that add up to the time between dates that are given.

    The scale between two dates also counts after them, and the first one's before them. Where each
    segment has a date, there is one scale for all, by the median.
    """
    dated = [n for n, entry in enumerate(entries) if entry.date is not None]
    if len(dated) < 2 or any(entry.discontinuity for entry in entries[1:]):
        return entries
    lengths_s = [entry.duration_s for entry in entries]
    steps = [(at, n, _seconds_between(entries[at], entries[n])) for at, n in pairwise(dated)]
    scales: list[tuple[int, float]] = []
    if len(dated) == len(entries):
        usual_s, step_s = median(lengths_s), median(step_s for _, _, step_s in steps)
        if len(steps) > 1 and 0 < step_s < (1 - _OTHER) * usual_s:
            scales.append((len(entries), step_s / usual_s))
        steps = []
    for at, n, step_s in steps:
        scale = step_s / (sum(lengths_s[at:n]) or 1.0)
        is_hole = (scale - 1) * max(lengths_s[at:n]) > _MAX_ROUNDING_S
        if n - at > 1 and scale > 0 and abs(scale - 1) > _WAVERING and not is_hole:
            scales.append((n, scale))
    if not scales:
        return entries
    of = [
        next((each for end, each in scales if n < end), scales[-1][1]) for n in range(len(entries))
    ]
    return [
        replace(entry, duration_s=entry.duration_s * scale)
        for entry, scale in zip(entries, of, strict=True)
    ]


def _seconds_between(before: Entry, after: Entry) -> float:
    return (after.date - before.date).total_seconds() if before.date and after.date else 0.0
