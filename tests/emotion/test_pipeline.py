import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from emotion.device import DeviceError
from emotion.linking.cuts import N_BINS
from emotion.pipeline import Analyser, Linker
from emotion.types import Detections, EmotionError, Faces, Frames, Observations, StateError
from emotion.weights.store import WeightsError

START = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def analyser(cache_dir: Path) -> Analyser:
    return Analyser(device="cpu", cache_dir=cache_dir)


def _show(portrait, n=20) -> Frames:
    """Return a face that moves right, leaves for 2.25 s, comes back, then a cut to two faces."""
    face = portrait[80:340:2, 120:380:2]
    images = np.full((n, 240, 427, 3), (60, 90, 120), dtype=np.uint8)
    for i in range(n):
        if 5 <= i < 13:
            continue
        if i < 15:
            images[i, 60:190, 20 + 12 * i : 150 + 12 * i] = face
        else:
            images[i] = (200, 190, 120)
            images[i, 60:190, 40:170] = face
            images[i, 60:190, 260:390] = face[:, ::-1]
    return Frames(
        images=images,
        offset_s=np.arange(n) * 0.25,
        source_width_px=854,
        source_height_px=480,
    )


def _part(frames: Frames, first: int, last: int) -> Frames:
    return Frames(
        images=frames.images[first:last],
        offset_s=frames.offset_s[first:last] - frames.offset_s[first],
        source_width_px=frames.source_width_px,
        source_height_px=frames.source_height_px,
    )


def _slice(d: Detections, first: int, last: int) -> Detections:
    """Return frames `first` to `last` as a segment."""
    rows = (d.faces.frame >= first) & (d.faces.frame < last)
    return Detections(
        offset_s=d.offset_s[first:last] - d.offset_s[first],
        histograms=d.histograms[first:last],
        faces=Faces(
            frame=d.faces.frame[rows] - first,
            boxes=d.faces.boxes[rows],
            scores=d.faces.scores[rows],
            landmarks=d.faces.landmarks[rows],
        ),
        probs=d.probs[rows],
    )


def _joined(parts: list[Observations]) -> dict[str, np.ndarray]:
    return {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Observations)
        if getattr(parts[0], f.name) is not None
    }


@pytest.fixture(scope="module")
def detections(analyser, portrait) -> Detections:
    return analyser.analyse(_show(portrait))


def test_the_story_of_the_show_is_in_the_tracks(detections):
    observations = Linker().update(detections, START)
    by_frame = {
        offset: observations.track[observations.ts == np.datetime64("2026-03-01T20:00") + offset]
        for offset in (detections.offset_s * 1e6).astype("timedelta64[us]")
    }
    tracks = [row.tolist() for row in by_frame.values()]
    assert tracks == [[1]] * 5 + [[]] * 8 + [[2]] * 2 + [[3, 4]] * 5


def test_rows_are_sorted_unique_and_sum_to_one(detections):
    observations = Linker().update(detections, START)
    keys = list(zip(observations.ts.tolist(), observations.track.tolist(), strict=True))
    assert keys == sorted(set(keys))
    for probs in (observations.probs, observations.smoothed):
        np.testing.assert_allclose(np.nansum(probs, axis=1), 1, atol=1e-5)
        assert not np.isnan(probs).any()


def test_a_new_track_is_not_smoothed_with_the_track_before(detections):
    observations = Linker().update(detections, START)
    first = np.unique(observations.track, return_index=True)[1]
    np.testing.assert_allclose(observations.smoothed[first], observations.probs[first], atol=1e-6)


def test_a_broadcast_split_anywhere_and_restarted_gives_the_same_rows(detections):
    whole = _joined([Linker().update(detections, START)])
    n = len(detections.offset_s)
    for border in range(1, n):
        state = None
        parts = []
        for first, last in ((0, border), (border, n)):
            linker = Linker(state)
            start = START + timedelta(seconds=float(detections.offset_s[first]))
            parts.append(linker.update(_slice(detections, first, last), start))
            state = json.loads(json.dumps(linker.state, allow_nan=False))
        for name, column in _joined(parts).items():
            np.testing.assert_array_equal(column, whole[name], err_msg=f"{name} at {border}")


def test_a_cut_between_two_segments_ends_the_tracks(detections):
    one = _slice(detections, 0, 1)
    other = Detections(
        offset_s=one.offset_s,
        histograms=detections.histograms[-1:],
        faces=one.faces,
        probs=one.probs,
    )
    linker = Linker()
    soon = START + timedelta(seconds=0.2)
    assert linker.update(one, START).track.tolist() == [1]
    assert linker.update(other, soon).track.tolist() == [2]


def test_a_hole_between_two_segments_ends_the_tracks(detections):
    one = _slice(detections, 0, 1)
    linker = Linker()
    tracks = [
        linker.update(one, START + timedelta(seconds=s)).track.tolist() for s in (0, 1.9, 4.0)
    ]
    assert tracks == [[1], [1], [2]]


def test_shots_begin_with_the_broadcast_a_cut_and_what_follows_a_hole(detections):
    """Independent of the split into segments, and after a restart from the stored state."""
    hole = timedelta(seconds=5)
    for first in (8, 15, 17):
        linker = Linker(None)
        one = linker.update(_slice(detections, 0, first), START)
        linker = Linker(json.loads(json.dumps(linker.state)))
        two = linker.update(_slice(detections, first, 20), START + timedelta(seconds=first / 4))
        three = linker.update(_slice(detections, 19, 20), START + timedelta(seconds=5) + hole)
        times = _joined([one, two, three])
        start = np.datetime64(START.replace(tzinfo=None), "us")
        # In this show the picture also changes when the face leaves and returns.
        begin_ms = (0, 1250, 3250, 3750, 10_000)
        at = [start + np.timedelta64(ms, "ms") for ms in begin_ms]
        assert times["shots"].tolist() == np.array(at).tolist()
        before = times["seen_before"]
        assert np.isnat(before[0])
        assert (times["shots"] - before)[1:].tolist() == [
            *[timedelta(seconds=0.25)] * 3,
            timedelta(seconds=5.25),
        ]
        assert len(times["frames"]) == 21


def test_a_segment_that_overlaps_the_past_never_repeats_a_key(detections):
    linker = Linker()
    parts = [linker.update(detections, START) for _ in range(2)]
    columns = _joined(parts)
    keys = list(zip(columns["ts"].tolist(), columns["track"].tolist(), strict=True))
    assert len(keys) == len(set(keys))


def test_a_segment_without_faces_or_frames_gives_no_rows(detections):
    linker = Linker()
    assert len(linker.update(_slice(detections, 6, 9), START)) == 0
    empty = Detections(
        offset_s=np.zeros(0),
        histograms=np.zeros((0, N_BINS), dtype=np.float32),
        faces=_slice(detections, 6, 9).faces,
        probs=np.zeros((0, 8), dtype=np.float32),
    )
    before = linker.state
    assert len(linker.update(empty, START + timedelta(seconds=2))) == 0
    assert linker.state == before


def test_the_state_is_small(detections):
    linker = Linker()
    linker.update(detections, START)
    assert len(json.dumps(linker.state)) < 4000


@pytest.mark.parametrize(
    "start",
    [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))],  # noqa: DTZ001
    ids=["naive", "not UTC"],
)
def test_a_start_that_is_not_aware_utc_is_refused(detections, start):
    with pytest.raises(ValueError, match="aware UTC"):
        Linker().update(detections, start)


@pytest.mark.parametrize(
    "state", [{}, {"version": 99}, {"version": 1}, {"version": 1, "tracker": 3}]
)
def test_a_foreign_state_is_refused(state):
    with pytest.raises(StateError) as error:
        Linker(state)
    assert isinstance(error.value, EmotionError)


def test_an_empty_segment_is_analysed(analyser, portrait):
    detections = analyser.analyse(_part(_show(portrait), 5, 5 + 3))
    assert len(detections.faces) == 0
    assert detections.probs.shape == (0, 8)
    assert detections.histograms.shape == (3, N_BINS)


def test_boxes_are_in_source_pixels(detections):
    np.testing.assert_allclose(detections.faces.boxes[0], (98, 147, 276, 366), atol=25)


def test_the_same_segment_gives_the_same_detections(analyser, portrait, detections):
    again = analyser.analyse(_show(portrait))
    np.testing.assert_array_equal(again.faces.boxes, detections.faces.boxes)
    np.testing.assert_array_equal(again.probs, detections.probs)


def test_the_model_names_both_networks(analyser):
    assert analyser.model == "retinaface-mobilenet0.25+showmood-expression-2"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"device": "cuda:99"}, DeviceError),
        ({"detector": "mini-xception"}, WeightsError),
        ({"emotion_model": "nonesuch"}, WeightsError),
        ({"fps": 0.0}, ValueError),
        ({"min_score": 2.0}, ValueError),
    ],
    ids=["device", "detector", "emotion model", "fps", "score"],
)
def test_what_cannot_be_is_one_clear_line(cache_dir, arguments, error):
    with pytest.raises(error) as raised:
        Analyser(cache_dir=cache_dir, **arguments)
    assert "\n" not in str(raised.value)
