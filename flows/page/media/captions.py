"""Emotions of a time range as subtitles, timed from its start: WebVTT and ASS."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from db.tables.shows import EMOTIONS

HEAD: Final = """[Script Info]
ScriptType: v4.00+
Title: Showmood
WrapStyle: 2

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BackColour, BorderStyle, Alignment, MarginV
Style: Mood,sans-serif,16,&H00FFFFFF,&H80000000,3,1,12

[Events]
Format: Layer, Start, End, Style, Text
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A caption's text, from one second to another of the recording."""

    begin_s: float
    end_s: float
    text: str


def lines(seconds: Sequence[Any], begin: datetime, end: datetime) -> list[Line]:
    """Return a line for each second (rows with `at`, `tracks`, the emotions); equal ones joined."""
    found: list[Line] = []
    length_s = (end - begin).total_seconds()
    for row in seconds:
        at_s = (row.at - begin).total_seconds()
        from_s, to_s = max(0.0, at_s), min(length_s, at_s + 1)
        if to_s <= from_s:
            continue
        shares = sorted(((getattr(row, name) or 0.0, name) for name in EMOTIONS), reverse=True)
        text = " · ".join(f"{name} {value:.0%}" for value, name in shares[:2] if value >= 0.1)
        text += f" · {row.tracks} face{'' if row.tracks == 1 else 's'}"
        if found and found[-1].text == text and abs(found[-1].end_s - from_s) < 0.01:
            found[-1] = Line(begin_s=found[-1].begin_s, end_s=to_s, text=text)
        else:
            found.append(Line(begin_s=from_s, end_s=to_s, text=text))
    return found


def as_webvtt(found: Sequence[Line]) -> str:
    """Return them as WebVTT."""
    cues = (f"{_vtt(each.begin_s)} --> {_vtt(each.end_s)}\n{each.text}\n" for each in found)
    return "WEBVTT\n\n" + "\n".join(cues)


def as_ass(found: Sequence[Line]) -> str:
    """Return them as Advanced SubStation Alpha."""
    return HEAD + "".join(
        f"Dialogue: 0,{_ass(each.begin_s)},{_ass(each.end_s)},Mood,{each.text}\n" for each in found
    )


def _vtt(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _ass(seconds: float) -> str:
    cs = round(seconds * 100)
    return f"{cs // 360000}:{cs // 6000 % 60:02d}:{cs // 100 % 60:02d}.{cs % 100:02d}"
