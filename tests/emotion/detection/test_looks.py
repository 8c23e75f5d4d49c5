"""Detection around known faces finds the same faces as in whole frames, with less work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotion import alike
from emotion.detection import boxes, looks, near
from emotion.detection.detect import Detector
from emotion.detection.looks import same_faces
from emotion.linking import cuts
from emotion.pipeline import Analyser
from emotion.types import Faces, Frames
from emotion.weights import store

SIZE_PX = (360, 640)
N = 10  # frames of a segment of 2 s


@pytest.fixture(scope="module")
def everywhere(cache_dir: Path) -> Analyser:
    return Analyser(device="cpu", cache_dir=cache_dir, everywhere=True)


@pytest.fixture(scope="module")
def around(cache_dir: Path) -> Analyser:
    return Analyser(device="cpu", cache_dir=cache_dir)


@pytest.fixture
def searched(around, monkeypatch):
    """Count the frames that are searched whole."""
    detector, frames = around._detector, []
    detect = detector.detect
    monkeypatch.setattr(
        detector, "detect", lambda *a: frames.append(a[0].offset_s[0]) or detect(*a)
    )
    return frames


def _segment(portrait, *scenes, fps=5.0, size=SIZE_PX) -> Frames:
    """Return frames with the portrait at each (x, y, step: of subsampling) given."""
    images = np.full((len(scenes), *size, 3), (70, 90, 110), dtype=np.uint8)
    for image, faces in zip(images, scenes, strict=True):
        for x, y, step in faces:
            face = portrait[60:380:step, 110:410:step]
            place = image[y : y + len(face), x : x + face.shape[1]]
            place[:] = face[: place.shape[0], : place.shape[1]]
    return Frames(
        images=images,
        offset_s=np.arange(len(scenes)) / fps,
        source_width_px=size[1],
        source_height_px=size[0],
    )


def _sway(i):
    return [(60 + 3 * i, 40, 2), (400 - 2 * i, 90, 3)]


SCENES = {
    "two who sway": ([_sway(i) for i in range(N)], 4),
    "one comes": ([_sway(i)[: 1 + (i > 4)] for i in range(N)], N),
    "one leaves": ([_sway(i)[: 2 - (i > 6)] for i in range(N)], N),
    "one walks fast": ([[(20 + 45 * i, 60, 3)] for i in range(N)], N),
    "another one in each frame": (
        [
            [(30 + 330 * (i % 2), 20 + 17 * (i % 9), 3), (180 + 300 * ((i + 1) % 2), 230, 4)]
            for i in range(N)
        ],
        N,
    ),
    "nobody": ([[] for _ in range(N)], 4),
    "one who is large": ([[(150 + 2 * i, 20, 1)] for i in range(N)], 5),
    "one who is there for a second": ([_sway(i)[: 1 + (2 < i < 8)] for i in range(N)], N),
    "a single frame": ([_sway(0)], 1),
    "three frames": ([_sway(i) for i in range(3)], 3),
}


@pytest.mark.parametrize("name", SCENES)
def test_finds_the_faces_that_looking_everywhere_finds(
    everywhere, around, portrait, searched, name
):
    scenes, most = SCENES[name]
    frames = _segment(portrait, *scenes)
    whole, said = everywhere.analyse(frames), around.analyse(frames)
    assert said.faces.frame.tolist() == whole.faces.frame.tolist()
    off = []
    for i in range(len(frames)):
        a, b = (d.faces.boxes[d.faces.frame == i] for d in (whole, said))
        if len(a) == 0:
            continue
        row = boxes.iou_of(a, b).argmax(axis=1)
        sides = (a[:, 2:] - a[:, :2]).max(axis=1, initial=1)
        off += (np.abs(a - b[row]).max(axis=1, initial=0) / sides).tolist()
    assert not off or np.median(off) <= 0.04
    assert not off or max(off) < 0.2
    assert len(searched) <= most


def test_both_sides_of_a_cut_are_searched_whole(everywhere, around, portrait, searched):
    frames = _segment(portrait, *([_sway(0)] * 4 + [[(300, 20, 1)]] * 6))
    frames.images[4:, :, :300] = (200, 180, 90)
    frames.images[4:, :, 610:] = (200, 180, 90)
    said = around.analyse(frames)
    assert {0.6, 0.8} <= {round(float(at), 1) for at in searched}
    assert said.faces.frame.tolist() == everywhere.analyse(frames).faces.frame.tolist()


def test_frames_that_are_far_apart_are_all_searched_whole(around, portrait, searched):
    around.analyse(_segment(portrait, *[_sway(i) for i in range(4)], fps=2.0))
    assert len(searched) == 4


def test_the_same_frames_give_the_same_answer(around, portrait):
    frames = _segment(portrait, *[_sway(i) for i in range(N)])
    one, other = around.analyse(frames), around.analyse(frames)
    np.testing.assert_array_equal(one.faces.boxes, other.faces.boxes)
    np.testing.assert_array_equal(one.probs, other.probs)


def test_emotions_are_those_that_every_face_alone_gives(everywhere, around, portrait):
    frames = _segment(portrait, *[_sway(i) for i in range(N)])
    whole, said = everywhere.analyse(frames), around.analyse(frames)
    assert (whole.probs.argmax(axis=1) == said.probs.argmax(axis=1)).all()


def test_half_precision_and_no_finest_level_find_the_same_face(detector, cache_dir, portrait):
    half = Detector(store.load(store.DEFAULT_DETECTOR, cache_dir), device="cpu", exact=False)
    frames = _segment(portrait, _sway(0))
    exact, near_ = detector.detect(frames), half.detect(frames)
    assert boxes.iou_of(exact.boxes, near_.boxes).max(axis=1).min() > 0.97
    picture = detector.centred(torch.from_numpy(frames.images))
    _, _, coarse, _ = detector.candidates(picture, finest=False)
    assert boxes.iou_of(exact.boxes, coarse.numpy()).max(axis=1).min() > 0.8


@pytest.mark.parametrize("times", [1, 2, 3, 12])
def test_a_window_is_the_mean_of_its_pixels_and_nothing_outside_the_picture(times):
    picture = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mean = np.array((104.0, 117.0, 123.5))
    side, left, top = 6 * times, -2 * times, 40 - 3 * times
    whole = np.zeros((side, side, 3))
    for y in range(max(0, top), min(40, top + side)):
        for x in range(max(0, left), min(50, left + side)):
            whole[y - top, x - left] = picture[y, x] - mean
    expected = whole.reshape(6, times, 6, times, 3).mean(axis=(1, 3))
    got = near._cut(torch.tensor(mean), torch.from_numpy(picture), left, top, times, 6)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_crowds_are_searched_whole():
    frames = _segment(np.zeros((600, 512, 3), dtype=np.uint8), [])
    spread = np.array([(x, y) for x in range(0, 600, 40) for y in range(0, 330, 40)], np.float32)
    assert not near.pays(frames, np.concatenate((spread, spread + 25), axis=1))
    assert near.pays(frames, np.array([[10, 10, 60, 70]], dtype=np.float32))


def test_a_thousand_faces_are_not_counted_one_by_one():
    frames = _segment(np.zeros((600, 512, 3), dtype=np.uint8), [])
    assert not near.pays(frames, np.zeros((1_000_000, 4), dtype=np.float32))


def test_a_thousand_faces_are_not_paired(around, monkeypatch):
    low = np.random.default_rng(3).uniform(0, 300, (1000, 2)).astype(np.float32)
    crowd = Faces(
        frame=np.zeros(1000, dtype=np.int64),
        boxes=np.concatenate((low, low + 20), axis=1),
        scores=np.ones(1000, dtype=np.float32),
        landmarks=np.zeros((1000, 5, 2), dtype=np.float32),
    )
    monkeypatch.setattr(around._detector, "detect", lambda *a: crowd)
    monkeypatch.setattr(looks, "same_faces", lambda *a: pytest.fail("paired"))
    search = looks.Search(around._detector, around._workers)
    frames = _segment(np.zeros((600, 512, 3), dtype=np.uint8), *[[]] * N)
    histograms = cuts.histograms(frames.images)
    for i in range(N):
        one = Frames(
            images=frames.images[i : i + 1],
            offset_s=frames.offset_s[i : i + 1],
            source_width_px=SIZE_PX[1],
            source_height_px=SIZE_PX[0],
        )
        search.see(one, torch.from_numpy(frames.images[i]), histograms[i])
    assert len(search.faces()) == 1000 * N


def test_faces_are_the_same_by_place_and_size():
    a = np.array([[0, 0, 100, 100], [300, 0, 400, 100]], dtype=np.float32)
    assert same_faces(a, a[::-1] + 20).tolist() == [1, 0]
    assert same_faces(a, a[:1]) is None
    assert same_faces(a, a + 400) is None
    assert same_faces(a[:1], a[:1] * 2) is None


def _asked(thumbnails, person=None):
    """Return outputs of faces, a probability by brightness, and the number of classified faces."""
    looked = []

    def ask(rows):
        light = thumbnails[rows].mean(dim=1) / 255
        looked.append(light)
        return torch.stack((light, 1 - light), dim=1)

    person = np.zeros(len(thumbnails), dtype=np.int64) if person is None else person
    said = alike.interpolated_outputs(thumbnails, person, ask, n_probs=2)
    return said, sum(len(one) for one in looked)


def _gray(*levels):
    return torch.tensor(levels)[:, None].expand(-1, 256)


def test_a_face_that_stays_is_looked_at_twice():
    said, n_looked = _asked(_gray(*[100.0] * 5, *[104.0] * 5))
    assert n_looked == 2
    assert (said[:, 0].diff() >= 0).all()


def test_a_face_that_changes_slowly_is_judged_again():
    levels = np.linspace(60, 200, 11)
    said, n_looked = _asked(_gray(*levels))
    assert n_looked >= 5
    np.testing.assert_allclose(said[:, 0].numpy(), levels / 255, atol=1e-5)


def test_a_face_that_changes_for_one_frame_is_looked_at_there():
    for at in range(1, 9):
        levels = [100.0] * 10
        levels[at] = 180.0
        said, _ = _asked(_gray(*levels))
        np.testing.assert_allclose(said[:, 0].numpy(), np.array(levels) / 255, atol=1e-5)


def test_each_person_is_judged_alone():
    said, _ = _asked(_gray(100.0, 100.0, 100.0, 200.0, 20.0, 20.0), np.array([0, 0, 0, 1, 2, 2]))
    expected = np.array([100, 100, 100, 200, 20, 20]) / 255
    np.testing.assert_allclose(said[:, 0].numpy(), expected, atol=1e-5)


def test_faces_in_frames_next_to_each_other_are_of_one_person():
    box = np.array([[0, 0, 100, 100], [300, 0, 400, 100]], dtype=np.float32)
    faces = Faces(
        frame=np.array([0, 0, 1, 1, 3]),
        boxes=np.concatenate((box, box[::-1] + 10, box[:1])),
        scores=np.ones(5, dtype=np.float32),
        landmarks=np.zeros((5, 5, 2), dtype=np.float32),
    )
    person = alike.face_ids(faces)
    assert person[0] == person[3]
    assert person[1] == person[2]
    assert person[4] not in person[:4]
