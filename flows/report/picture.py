"""The timeline as a picture: emotions over time, tracks, cuts and gaps."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import Connection

from db.reading import queries
from db.reading.answers import Timeline, Tracks
from db.reading.moments import TrackMoods, cuts, track_moods
from db.tables.shows import TRACKS_PER_BROADCAST
from emotion.types import EMOTIONS

COLOURS: Final = {
    "neutral": "#BDBDBD",
    "happiness": "#F0E442",
    "surprise": "#E69F00",
    "sadness": "#0072B2",
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#56B4E9",
    "contempt": "#CC79A7",
}
"""The colour-blind safe palette of Okabe and Ito (2008), and grey for neutral."""

HATCHES: Final = {
    "neutral": "",
    "happiness": "",
    "surprise": "....",
    "sadness": "",
    "anger": "----",
    "disgust": "oo",
    "fear": "||||",
    "contempt": "++",
}
"""Patterns for colours of similar lightness, for print and greyscale."""

BUCKETS: Final = 150
"""Most time steps of a picture, about."""

MAX_CUTS: Final = 60
"""Most cuts that are drawn; the title has their number."""

MAX_LANES: Final = 30
"""Most tracks that are drawn: the longest."""

MAX_NUMBERED: Final = 20
"""With more lanes than this, their numbers would overlap."""

MIN_LANES: Final = 8
"""Least lanes of the panel, so that a single track is not drawn too high."""

LARGE_IN: Final = (12.0, 6.0)
SMALL_IN: Final = (10.0, 5.0)
SMALL_DPI: Final = 80
SHADES: Final = (("#222222", 1 / 3), ("#222222", 2 / 3), ("#FFFFFF", 1 / 2), ("#FFFFFF", 3 / 4))
"""Mixtures with each emotion's colour in a small picture, for edges of lines and letters."""

Span = tuple[datetime, datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """The data of one channel's picture."""

    title: str
    timeline: Timeline
    bucket_s: float
    tracks: Tracks
    gaps: tuple[Span, ...]
    cuts: tuple[datetime, ...] = ()
    moods: TrackMoods | None = None
    """Emotions of the shown tracks over time; None: each track is drawn with its mean."""


def read_picture(
    connection: Connection, channel: str, since: datetime, until: datetime
) -> Picture | None:
    """Read the picture's data between two aware times; None if no face was seen."""
    found = queries.summary(connection, channel, since, until)
    if found.first_ts is None or found.last_ts is None:
        return None
    length_s = (found.last_ts - found.first_ts).total_seconds()
    bucket_s = max(1.0, float(np.ceil(length_s / BUCKETS)))
    end = found.last_ts + timedelta(microseconds=1)
    tracks = queries.tracks(connection, channel, found.first_ts, end)
    ids = (tracks.broadcast_id * TRACKS_PER_BROADCAST + tracks.track)[_longest(tracks)]
    seen_cuts = cuts(
        connection, channel, found.first_ts, end, show_ids=np.unique(tracks.broadcast_id).tolist()
    )
    day = f"{found.first_ts:%Y-%m-%d}"
    return Picture(
        title=f"{channel}, {day}, {found.n_tracks} tracks, {found.n_observations} faces, "
        f"{len(seen_cuts)} cuts (UTC)",
        timeline=queries.timeline(connection, channel, found.first_ts, end, bucket_s),
        bucket_s=bucket_s,
        tracks=tracks,
        moods=track_moods(
            connection, channel, found.first_ts, end, track_ids=ids, bucket_s=bucket_s
        ),
        gaps=tuple(
            (start, end) for start, end, _ in queries.gaps(connection, channel, found.first_ts, end)
        ),
        cuts=tuple(seen_cuts),
    )


def draw(picture: Picture, size_in: tuple[float, float] = LARGE_IN) -> Figure:
    """Return the figure, at 100 dpi: shares above, tracks as lanes below."""
    figure = Figure(figsize=size_in, dpi=100, layout="constrained")
    mood, lanes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_mood(mood, picture)
    _draw_lanes(lanes, picture)
    for start, end in picture.gaps:
        for axes in (mood, lanes):
            axes.axvspan(
                mdates.date2num(start),
                mdates.date2num(end),
                facecolor="white",
                edgecolor="#333333",
                hatch="xxx",
                linewidth=0,
                zorder=3,
            )
    drawn_cuts = picture.cuts if len(picture.cuts) <= MAX_CUTS else ()
    for moment in drawn_cuts:
        for axes in (mood, lanes):
            axes.axvline(mdates.date2num(moment), color="black", linestyle=(0, (1, 2)), zorder=4)
    mood.set_title(picture.title, loc="left", fontsize=12)
    handles, labels = mood.get_legend_handles_labels()
    known = set(np.array(EMOTIONS)[~np.isnan(picture.timeline.emotions).all(axis=0)])
    shown = [
        (handle, label) for handle, label in zip(handles, labels, strict=True) if label in known
    ]
    if picture.gaps:
        shown.append((Patch(facecolor="white", edgecolor="#333333", hatch="xxx"), "not recorded"))
    if drawn_cuts:
        shown.append((Line2D([], [], color="black", linestyle=(0, (1, 2))), "cut"))
    figure.legend(
        *zip(*shown, strict=True),
        loc="outside lower center",
        ncols=max(1, len(shown)),
        fontsize=9,
        frameon=False,
        handleheight=1.4,
    )
    return figure


def small_png(picture: Picture) -> bytes:
    """Return the figure as a small PNG file, 800 x 400 pixels.

    A run's report is sent every minute, and Prefect keeps each in an event for a while.
    """
    drawn = io.BytesIO()
    draw(picture, SMALL_IN).savefig(drawn, format="png", dpi=SMALL_DPI)
    small = io.BytesIO()
    with Image.open(drawn) as image:
        few = Image.fromarray(_nearest(np.asarray(image.convert("RGB")), palette := _palette()))
    few.putpalette(palette.astype(np.uint8).tobytes())
    few.save(small, "png", optimize=True)
    return small.getvalue()


def _palette() -> NDArray[np.float64]:
    """Return the emotions' colours, their shades, and greys, (C, 3) in 0..255."""
    base = np.array([to_rgb(COLOURS[name]) for name in EMOTIONS])
    shades = [base + share * (np.array(to_rgb(to)) - base) for to, share in SHADES]
    greys = np.linspace(0, 1, 16)[:, np.newaxis].repeat(3, axis=1)
    return np.round(255 * np.concatenate([base, *shades, greys]))


def _nearest(image: NDArray[np.uint8], palette: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the number of the palette's nearest colour for each pixel of (H, W, 3)."""
    packed = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    found, which = np.unique(packed, return_inverse=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    nearest = np.square(colours[:, np.newaxis] - palette).sum(axis=2).argmin(axis=1)
    numbers: NDArray[np.uint8] = nearest.astype(np.uint8)[which].reshape(packed.shape)
    return numbers


def _draw_mood(axes: Axes, picture: Picture) -> None:
    timeline = picture.timeline
    step = np.timedelta64(int(picture.bucket_s * 1e6), "us")
    shares = np.nan_to_num(timeline.emotions)
    starts = timeline.start
    # Begin a new area after each time without faces.
    breaks = np.flatnonzero(np.diff(starts) > step) + 1
    for part in np.split(np.arange(len(starts)), breaks):
        if not len(part):
            continue
        # Each bucket's mean holds from its start to its end.
        edges = np.append(starts[part], starts[part][-1] + step)
        values = np.vstack([shares[part], shares[part][-1:]])
        areas = axes.stackplot(
            mdates.date2num(edges),
            *values.T,
            colors=[COLOURS[name] for name in EMOTIONS],
            hatch=[HATCHES[name] for name in EMOTIONS],
            step="post",
            edgecolor="#222222",
            linewidth=0.4,
        )
        for area, name in zip(areas, EMOTIONS, strict=True):
            area.set_label(name if part[0] == 0 else f"_{name}")
    axes.set_ylim(0, 1)
    axes.set_ylabel("mean probability")
    axes.spines[["top", "right"]].set_visible(False)


def _longest(tracks: Tracks) -> NDArray[np.int64]:
    """Return the rows of the longest tracks, in order of their start."""
    length = (tracks.last_ts - tracks.first_ts).astype(np.int64)
    return np.sort(np.argsort(-length, kind="stable")[:MAX_LANES]).astype(np.int64)


def _draw_lanes(axes: Axes, picture: Picture) -> None:
    """Draw a lane for each track, in the colours of its emotions over time."""
    tracks = picture.tracks
    shown = _longest(tracks)
    for lane, row in enumerate(shown):
        for begin, end, emotion in _stretches(picture, int(row)):
            left = float(mdates.date2num(begin))
            axes.barh(
                lane,
                max(float(mdates.date2num(end)) - left, 0.2 / 86400),
                left=left,
                height=0.7,
                color=COLOURS.get(emotion, "#C8C8C8"),
                hatch=HATCHES.get(emotion, ""),
                edgecolor="#444444",
                linewidth=0.3,
            )
        if len(shown) <= MAX_NUMBERED:
            axes.annotate(
                str(tracks.track[row]),
                (float(mdates.date2num(tracks.first_ts[row])), lane),
                xytext=(-3, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7,
            )
    axes.set_yticks([])
    axes.set_ylim(max(len(shown), MIN_LANES) - 0.5, -0.5)
    dropped = len(tracks.track) - len(shown)
    axes.set_ylabel("tracks" + (f"\n({dropped} shorter not shown)" if dropped else ""))
    axes.spines[["top", "right", "left"]].set_visible(False)
    locator = mdates.AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz=UTC))


def _stretches(picture: Picture, row: int) -> Iterator[tuple[np.datetime64, np.datetime64, str]]:
    """Yield begin, end and emotion of a track's intervals of one emotion, in order."""
    tracks, moods = picture.tracks, picture.moods
    first, last = tracks.first_ts[row], tracks.last_ts[row]
    mine = np.zeros(0, np.int64)
    if moods is not None:
        track_id = tracks.broadcast_id[row] * TRACKS_PER_BROADCAST + tracks.track[row]
        mine = np.flatnonzero(moods.track_id == track_id)
    if moods is None or not len(mine):
        yield first, last, str(tracks.emotion[row])
        return
    changes = np.flatnonzero(moods.emotion[mine][1:] != moods.emotion[mine][:-1]) + 1
    parts = np.split(mine, changes)
    for number, part in enumerate(parts):
        begin = max(moods.start[part[0]], first)
        end = moods.start[parts[number + 1][0]] if number + 1 < len(parts) else last
        yield begin, end, str(moods.emotion[part[0]])
