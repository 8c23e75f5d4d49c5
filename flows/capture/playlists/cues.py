"""Advertisements in a playlist: cue tags as packagers write them, and date ranges.

EXT-X-CUE-OUT, -CONT and -IN, EXT-X-CUE, EXT-X-SCTE35, EXT-X-SPLICEPOINT-SCTE35 and
EXT-OATCLS-SCTE35 are widely used but in no standard; EXT-X-DATERANGE is RFC 8216, 4.3.2.7, with
SCTE-35 in 4.3.2.7.1.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from flows.capture.playlists.splice import read_splice
from flows.capture.playlists.tags import attributes_of, number_of, parse_date

_MAX_BREAKS: Final = 1000
_MAX_BREAK: Final = timedelta(minutes=10)
"""Assumed length of a break whose end is not announced."""

_AD_CLASS: Final = re.compile(
    r"(^|[^a-z])(stitched-ad|ads?([-_]?(break|pod|slot)s?)?|advert\w*|commercial|scte-?35)([^a-z]|$)",
    re.I,
)
_AD_ID: Final = "stitched-ad-"
_AD_ATTRIBUTE: Final = "X-TV-TWITCH-AD-"
"""How Twitch marks its own, as streamlink's plugin reads them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A cue before a segment: advertisements begin ("out"), continue ("on") or end ("in").

    left_s: seconds of advertisements left from there; None where unknown.
    """

    kind: Literal["out", "on", "in"]
    left_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """An advertisement break, by the source's dates; half-open, aware UTC.

    is_open: its end is not announced yet. until_class: it ends with the next range of this class.
    """

    start: datetime
    end: datetime
    is_open: bool = False
    until_class: str | None = None


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
        elif tag == "#EXT-X-CUE-IN":
            self._cue = Cue(kind="in")
        elif tag == "#EXT-X-CUE-SPAN":
            self._cue = self._cue or Cue(kind="on")
        elif tag == "#EXT-X-CUE":
            self._read_cue(attributes_of(value))
        elif tag in ("#EXT-OATCLS-SCTE35", "#EXT-X-SPLICEPOINT-SCTE35"):
            self._read_splice(value)
        elif tag == "#EXT-X-SCTE35":
            found = attributes_of(value)
            if found.get("CUE-OUT", "").upper() in ("YES", "CONT"):
                self._cue = Cue(kind="out", left_s=number_of(found.get("DURATION", "")) or None)
            elif found.get("CUE-IN", "").upper() == "YES":
                self._cue = Cue(kind="in")
            else:
                self._read_splice(found.get("CUE", ""))
        elif tag == "#EXT-X-DATERANGE":
            self._read_range(attributes_of(value))

    def _read_cue(self, said: dict[str, str]) -> None:
        kind = said.get("TYPE", "").lower()
        if kind == "spliceout":
            self._cue = Cue(kind="out", left_s=number_of(said.get("DURATION", "")) or None)
        elif kind == "splicein":
            self._cue = Cue(kind="in")

    def _read_splice(self, message: str) -> None:
        """Read an SCTE-35 message, which counts if no other tag says more."""
        found = read_splice(message)
        if found is not None and self._cue is None:
            self._cue = Cue(kind=found[0], left_s=found[1] or None)

    def _read_range(self, said: dict[str, str]) -> None:
        name, start = said.get("ID", ""), parse_date(said.get("START-DATE", ""))
        known = self._breaks.get(name)
        ends = parse_date(said.get("END-DATE", ""))
        if known is not None and (ends or "SCTE35-IN" in said):
            at = known.start + timedelta(seconds=number_of(said.get("DURATION", "")))
            end = ends or (at if "DURATION" in said else start or known.end)
            self._breaks[name] = Break(start=known.start, end=end)
            return
        if start is None:
            return
        is_in = "SCTE35-IN" in said
        for other, each in self._breaks.items():
            ends_it = each.until_class == said.get("CLASS", "") or (is_in and each.is_open)
            if ends_it and each.start < start < each.end:
                self._breaks[other] = replace(each, end=start, is_open=False)
        if not _is_ad(name, said) or len(self._breaks) >= _MAX_BREAKS:
            return
        length = said.get("DURATION") or said.get("PLANNED-DURATION")
        is_open = ends is None and "DURATION" not in said
        if length is not None:
            ends = ends or start + min(timedelta(seconds=number_of(length)), 6 * _MAX_BREAK)
        self._breaks[name] = Break(
            start=start,
            end=ends or start + _MAX_BREAK,
            is_open=is_open,
            until_class=said.get("CLASS", "") if said.get("END-ON-NEXT") == "YES" else None,
        )


def _is_ad(name: str, said: dict[str, str]) -> bool:
    """Return whether a date range of this ID and these attributes is an advertisement."""
    return (
        "SCTE35-OUT" in said
        or bool(_AD_CLASS.search(said.get("CLASS", "")))
        or name.startswith(_AD_ID)
        or any(each.startswith(_AD_ATTRIBUTE) for each in said)
    )


def _left(value: str) -> float | None:
    """Return the seconds left of a break, from "8.3/30" or "ElapsedTime=8.3,Duration=30"."""
    found = attributes_of(value)
    if "DURATION" in found:
        return max(0.0, number_of(found["DURATION"]) - number_of(found.get("ELAPSEDTIME", "")))
    elapsed, slash, length = value.partition("/")
    return max(0.0, number_of(length) - number_of(elapsed)) if slash else None
