"""The curve of a time range as SVG, for papers and slides; the browser makes a PNG of it."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

from db.tables.shows import EMOTIONS

COLOURS: Final = {
    "neutral": "#6b7280",
    "happiness": "#c98500",
    "surprise": "#0f8f8f",
    "sadness": "#2f6fd0",
    "anger": "#c8402f",
    "disgust": "#5f7f1f",
    "fear": "#7b4fc0",
    "contempt": "#b0508f",
}
DASHES: Final = {
    "neutral": "2 3",
    "happiness": "",
    "surprise": "8 3",
    "sadness": "4 2",
    "anger": "",
    "disgust": "10 3 2 3",
    "fear": "6 2 2 2",
    "contempt": "3 3",
}
"""Colours that colour-blind people can distinguish, and dash patterns; as in tokens.css."""

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 960, 360, 48, 40, 110, 32


def svg(rows: Sequence[Any], begin: datetime, end: datetime, title: str) -> str:
    """Return the drawing of rows with `at` and the emotions, over [begin, end)."""
    span_s = (end - begin).total_seconds()
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: datetime) -> float:
        return LEFT + wide * (at - begin).total_seconds() / span_s

    def y(share: float) -> float:
        return TOP + high * (1 - share)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="22" font-size="15" fill="#1c2430">{escape(title)}</text>'
    ]
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<path d="M{LEFT} {y(level):.1f}H{LEFT + wide}" stroke="#d8dde5"/>'
            f'<text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end" fill="#5b6573">'
            f"{level:.0%}</text>"
        )
    for part in range(5):
        at = begin + (end - begin) * part / 4
        parts.append(
            f'<text x="{x(at):.1f}" y="{HEIGHT - 10}" text-anchor="middle" fill="#5b6573">'
            f"{at:%H:%M:%S}</text>"
        )
    ends: list[tuple[float, str]] = []
    for name in EMOTIONS:
        steps: list[str] = []
        last: datetime | None = None
        share: float | None = None
        for row in rows:
            share = getattr(row, name)
            if share is None:
                last = None
                continue
            gap_s = (row.at - last).total_seconds() if last else float("inf")
            joined = gap_s <= max(120, span_s / 50)
            steps.append(f"{'L' if joined else 'M'}{x(row.at):.1f} {y(share):.1f}")
            last = row.at
        if steps:
            dash = f' stroke-dasharray="{DASHES[name]}"' if DASHES[name] else ""
            parts.append(
                f'<path d="{"".join(steps)}" fill="none" stroke="{COLOURS[name]}"'
                f' stroke-width="1.8" stroke-linejoin="round"{dash}/>'
            )
            ends.append((y(share or 0.0), name))
    below = float(TOP)
    for at_y, name in sorted(ends):
        below = max(below, at_y + 4)
        parts.append(
            f'<text x="{LEFT + wide + 8}" y="{below:.1f}" fill="{COLOURS[name]}">{name}</text>'
        )
        below += 14
    return "".join([*parts, "</svg>"])
