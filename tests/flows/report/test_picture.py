"""The picture: cuts, gaps, and no distinction only by colour."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from db.reading.answers import Timeline, Tracks
from db.reading.moments import TrackMoods
from db.tables.shows import EMOTIONS, TRACKS_PER_BROADCAST
from flows.report.picture import (
    COLOURS,
    HATCHES,
    MAX_CUTS,
    SMALL_IN,
    Picture,
    draw,
    small_png,
)

START = datetime(2026, 11, 22, 20, tzinfo=UTC)


def tracks(*spans: tuple[float, float], emotion: str = "neutral") -> Tracks:
    base = np.datetime64("2026-11-22T20:00:00", "us")
    ends = np.array(spans, dtype=float).reshape(-1, 2)
    first, last = (base + (ends[:, i] * 1e6).astype("timedelta64[us]") for i in (0, 1))
    return Tracks(
        broadcast_id=np.ones(len(spans), dtype=np.int64),
        track=np.arange(1, len(spans) + 1),
        n=np.ones(len(spans), dtype=np.int64),
        first_ts=first,
        last_ts=last,
        emotions=np.full((len(spans), 8), 0.1),
        emotion=np.array([emotion] * len(spans), dtype=np.str_),
    )


def test_no_two_emotions_differ_by_colour_alone():
    """Luminance (ITU-R BT.709) is what greyscale keeps."""
    grey = {name: np.dot(to_rgb(COLOURS[name]), (0.2126, 0.7152, 0.0722)) for name in EMOTIONS}
    for one, other in combinations(EMOTIONS, 2):
        assert abs(grey[one] - grey[other]) > 0.05 or HATCHES[one] != HATCHES[other], (one, other)


def picture(*, gap: bool, spans: tuple[tuple[float, float], ...], n_cuts: int = 0) -> Picture:
    base = np.datetime64("2026-11-22T20:00:00", "us")
    emotions = np.random.default_rng(1).dirichlet(np.ones(7), 60)
    return Picture(
        title="demo",
        timeline=Timeline(
            start=base + np.arange(60) * np.timedelta64(1_000_000, "us"),
            seconds=np.full(60, 1),
            emotions=np.concatenate([emotions, np.full((60, 1), np.nan)], axis=1),
        ),
        bucket_s=1.0,
        tracks=tracks(*spans),
        gaps=((START + timedelta(seconds=20), START + timedelta(seconds=30)),) if gap else (),
        cuts=tuple(START + timedelta(seconds=20.2 + number / 2) for number in range(n_cuts)),
    )


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_has_only_what_is_drawn():
    plain = draw(picture(gap=False, spans=((0, 59.8),)))
    assert labels(plain) == list(EMOTIONS[:7])
    full = draw(picture(gap=True, spans=((0, 20.0), (20.2, 59.8)), n_cuts=1))
    assert labels(full) == [*EMOTIONS[:7], "not recorded", "cut"]


def test_cuts_never_cover_the_picture():
    for n_cuts in (MAX_CUTS, MAX_CUTS + 1):
        figure = draw(picture(gap=False, spans=((0, 59.8),), n_cuts=n_cuts))
        drawn = n_cuts if n_cuts == MAX_CUTS else 0
        assert [len(axes.lines) for axes in figure.axes] == [drawn, drawn]
        assert ("cut" in labels(figure)) == bool(drawn)


def pixels(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)[..., :3] @ np.array([0.2126, 0.7152, 0.0722])


def test_a_gap_and_a_cut_are_visible_in_greyscale():
    spans = ((0, 59.8),)
    plain = pixels(draw(picture(gap=False, spans=spans)))
    assert plain.shape == (600, 1200)
    gap = pixels(draw(picture(gap=True, spans=spans)))
    assert (np.abs(plain - gap) > 0.2).mean() > 0.03
    cut = pixels(draw(picture(gap=False, spans=spans, n_cuts=1)))
    assert (np.abs(plain - cut) > 0.2).mean() > 0.0005


def test_the_small_picture_has_the_content_of_the_large_one():
    shown = picture(gap=True, spans=((0, 20.0), (20.2, 59.8)), n_cuts=1)
    whole = io.BytesIO()
    draw(shown, SMALL_IN).savefig(whole, format="png", dpi=80)
    small = small_png(shown)
    assert len(small) < len(whole.getvalue()) / 2
    one, other = (imread(io.BytesIO(each))[..., :3] for each in (small, whole.getvalue()))
    for colour in ("white", *(COLOURS[name] for name in EMOTIONS[:7])):
        same = np.abs(other - to_rgb(colour)).max(axis=2) < 1 / 255
        assert same.any()
        assert np.abs(one[same] - to_rgb(colour)).max() < 1 / 255, colour
    assert one.shape == other.shape == (400, 800, 3)
    assert np.abs(one - other).mean() < 0.01
    assert (np.abs(one - other).max(axis=2) > 0.2).mean() < 0.002


def bars(figure) -> list[tuple[float, float, str]]:
    """The lanes' bars: lane, width in seconds, colour."""
    lanes = figure.axes[1]
    return [
        (
            round(bar.get_y() + bar.get_height() / 2),
            round(bar.get_width() * 86400, 1),
            to_hex(bar.get_facecolor()).upper(),
        )
        for bar in lanes.patches
    ]


def test_a_lane_changes_colour_with_its_face():
    base = np.datetime64("2026-11-22T20:00:00", "us")
    shown = picture(gap=False, spans=((0, 9.0), (2.0, 5.0)))
    moods = TrackMoods(
        track_id=np.array([1, 1, 1, 2]) + TRACKS_PER_BROADCAST,
        start=base + np.array([0, 3, 6, 2]) * np.timedelta64(1_000_000, "us"),
        emotion=np.array(["sadness", "sadness", "happiness", "anger"]),
    )
    assert bars(draw(replace(shown, moods=moods))) == [
        (0, 6.0, COLOURS["sadness"]),
        (0, 3.0, COLOURS["happiness"]),
        (1, 3.0, COLOURS["anger"]),
    ]


def test_a_single_face_is_drawn_as_a_thin_lane():
    figure = draw(picture(gap=False, spans=((0, 59.8),)))
    lanes = figure.axes[1]
    low, high = sorted(lanes.get_ylim())
    assert lanes.patches[0].get_height() / (high - low) < 0.1
