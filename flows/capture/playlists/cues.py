"""Advertisements in a playlist: cue tags as packagers write them, and date ranges.

EXT-X-CUE-OUT, -CONT and -IN, EXT-X-SCTE35 and EXT-OATCLS-SCTE35 are widely used but in no
standard; EXT-X-DATERANGE is RFC 8216, 4.3.2.7, with SCTE-35 in 4.3.2.7.1.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from flows.capture.playlists.tags import attributes_of, number_of, parse_date

_MAX_BREAKS: Final = 1000
_MAX_BREAK: Final = timedelta(minutes=10)
"""Assumed length of a break whose end is not announced."""

_AD_CLASS: Final = re.compile(r"(^|[^a-z])(ads?|advert\w*|commercial|scte-?35)([^a-z]|$)", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A cue before a segment: advertisements begin ("out"), continue ("on") or end ("in").

    left_s: seconds of advertisements left from there; None where unknown.
    """

    kind: Literal["out", "on", "in"]
    left_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """An advertisement break, by the source's dates; half-open, aware UTC."""

    start: datetime
    end: datetime


class Cues:
    """Reads the tags of one playlist."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._cue: Cue | None = None
        self._breaks: dict[str, Break] = {}

    def take(self) -> Cue | None:
        """Return the cue read since the last call, for the segment that follows."""
        cue, self._cue = self._cue, None
        return cue

    @property
    def breaks(self) -> tuple[Break, ...]:
        """Return the breaks announced by date ranges."""
        return tuple(self._breaks.values())

    def read(self, tag: str, value: str) -> None:
        """Read a tag; tags that are not about advertisements are ignored."""
        if tag == "#EXT-X-CUE-OUT":
            length = attributes_of(value).get("DURATION") or value.rpartition("=")[2]
            self._cue = Cue(kind="out", left_s=number_of(length) or None)
        elif tag == "#EXT-X-CUE-OUT-CONT":
            self._cue = self._cue or Cue(kind="on", left_s=_left(value))
        elif tag in ("#EXT-X-CUE-IN", "#EXT-X-CUE"):
            self._cue = Cue(kind="in") if tag.endswith("IN") else self._cue
        elif tag == "#EXT-X-SCTE35":
            found = attributes_of(value)
            if found.get("CUE-OUT", "").upper() in ("YES", "CONT"):
                self._cue = Cue(kind="out", left_s=number_of(found.get("DURATION", "")) or None)
            elif found.get("CUE-IN", "").upper() == "YES":
                self._cue = Cue(kind="in")
        elif tag == "#EXT-X-DATERANGE":
            self._read_range(attributes_of(value))

    def _read_range(self, attributes: dict[str, str]) -> None:
        name, start = attributes.get("ID", ""), parse_date(attributes.get("START-DATE", ""))
        known = self._breaks.get(name)
        ends = parse_date(attributes.get("END-DATE", ""))
        if known is not None and (ends or "SCTE35-IN" in attributes):
            at = known.start + timedelta(seconds=number_of(attributes.get("DURATION", "")))
            end = ends or (at if "DURATION" in attributes else start or known.end)
            self._breaks[name] = Break(start=known.start, end=end)
            return
        is_ad = "SCTE35-OUT" in attributes or _AD_CLASS.search(attributes.get("CLASS", ""))
        if not is_ad or start is None or len(self._breaks) >= _MAX_BREAKS:
            return
        length = attributes.get("DURATION") or attributes.get("PLANNED-DURATION")
        if length is not None:
            ends = ends or start + min(timedelta(seconds=number_of(length)), 6 * _MAX_BREAK)
        self._breaks[name] = Break(start=start, end=ends or start + _MAX_BREAK)


def _left(value: str) -> float | None:
    """Return the seconds left of a break, from "8.3/30" or "ElapsedTime=8.3,Duration=30"."""
    found = attributes_of(value)
    if "DURATION" in found:
        return max(0.0, number_of(found["DURATION"]) - number_of(found.get("ELAPSEDTIME", "")))
    elapsed, slash, length = value.partition("/")
    return max(0.0, number_of(length) - number_of(elapsed)) if slash else None
