import numpy as np
import pytest

from emotion.linking.camera import motion
from emotion.linking.track import Tracker

ROW = [(160 + 240 * i, 350, 110) for i in range(3)]  # centre and width: evenly spaced


def _boxes(places):
    x, y, width = np.array(places, dtype=np.float64).reshape(-1, 3).T
    return np.stack((x - width / 2, y - width / 2, x + width / 2, y + width / 2), axis=1)


def _moved(places, scale, right, down=0.0):
    return [(640 + (x - 640) * scale + right, y * scale + down, w * scale) for x, y, w in places]


def _jittered(boxes, rng):
    return boxes + rng.normal(0, 0.03, boxes.shape) * (boxes[:, 2:3] - boxes[:, :1])


def _crowd(n_faces):
    """Faces at no even distances, some of them of the same size."""
    rng = np.random.default_rng(n_faces)
    at = [(180 * (i % 6) + 100, 190 * (i // 6) + 100) for i in range(n_faces)]
    widths = rng.choice([80, 90, 100], n_faces)
    return np.column_stack((at + rng.uniform(-45, 45, (n_faces, 2)), widths))


@pytest.mark.parametrize(
    ("scale", "right", "down"),
    [(1.0, 140, 0), (1.0, -140, 60), (1.2, 110, -40), (0.85, -140, 90)],
    ids=["to the right", "to the left", "closer", "away"],
)
def test_a_motion_that_all_faces_share_is_found(scale, right, down):
    before = _boxes(ROW)
    now = _boxes(_moved(ROW, scale, right, down))
    found = motion(before, before, now)
    assert found is not None
    assert found.scale == pytest.approx(scale)
    np.testing.assert_allclose(found.of(before), now)


def test_a_motion_is_found_through_the_jitter_of_boxes():
    rng = np.random.default_rng(1)
    before, now = _boxes(ROW), _boxes(_moved(ROW, 1.1, 120, 30))
    found = motion(_jittered(before, rng), _jittered(before, rng), _jittered(now, rng))
    assert found is not None
    np.testing.assert_allclose(found.of(before), now, atol=0.2 * 110)


def test_a_quarter_of_the_faces_may_be_missing():
    places = [(200, 200, 110), (560, 260, 120), (900, 190, 100), (420, 540, 115)]
    now = _boxes(_moved(places, 1.05, 130, 20))
    found = motion(_boxes(places), _boxes(places), now[[0, 1, 3]])
    assert found is not None
    np.testing.assert_allclose(found.of(_boxes(places)), now)
    assert motion(_boxes(places), _boxes(places), now[[0, 3]]) is None


def test_the_order_of_the_faces_does_not_matter():
    before, now = _boxes(_crowd(12)), _boxes(_moved(_crowd(12), 1.1, 110, -30))
    first = motion(before, before, now)
    rng = np.random.default_rng(2)
    mixed = before[rng.permutation(12)]
    again = motion(mixed, mixed, now[rng.permutation(12)])
    assert first is not None
    assert again is not None
    assert (first.scale, *first.shift) == (again.scale, *again.shift)


@pytest.mark.parametrize("n_faces", [0, 1, 2])
def test_fewer_than_three_faces_tell_nothing_of_the_camera(n_faces):
    before, now = _boxes(ROW[:n_faces]), _boxes(_moved(ROW[:n_faces], 1.0, 140))
    assert motion(before, before, now) is None
    assert motion(_boxes(ROW), _boxes(ROW), now) is None


def test_there_is_no_motion_where_most_faces_are_where_they_were_predicted():
    row = [(100 + 150 * i, 350, 110) for i in range(5)]
    before, now = _boxes(row), _boxes(_moved(row, 1.0, 140))
    assert motion(before, now, now) is None


def test_two_motions_that_are_both_possible_are_none():
    row = [(100 + 150 * i, 350, 110) for i in range(5)]
    now = _boxes(_moved(row, 1.0, 75))  # half of the way to the next place, on either side
    assert motion(_boxes(row), _boxes(row), now) is None


@pytest.mark.parametrize(
    "places",
    [
        [(300, 300, 110), (800, 420, 115), (560, 150, 105)],
        [(x + 400, y, w) for x, y, w in ROW],
        [(x, y, 2 * w) for x, y, w in ROW],
    ],
    ids=["other places", "too far", "other sizes"],
)
def test_faces_of_another_picture_are_not_a_motion(places):
    assert motion(_boxes(ROW), _boxes(ROW), _boxes(places)) is None


def test_a_great_crowd_is_answered_from_its_largest_faces():
    rng = np.random.default_rng(3)
    crowd = np.column_stack((rng.uniform(0, 20_000, (400, 2)), rng.uniform(40, 90, 400)))
    now = _boxes(_moved(crowd, 1.0, 100, 60))
    found = motion(_boxes(crowd), _boxes(crowd) - 300, now)
    assert found is not None
    np.testing.assert_allclose(found.of(_boxes(crowd)), now, atol=1e-6)


def test_boxes_without_a_size_are_no_error():
    flat = np.zeros((4, 4))
    assert motion(flat, flat + 50, flat + 100) is None


def _tracks(tracker, at, places):
    return tracker.update(200_000 * at, _boxes(places).astype(np.float32)).tolist()


def test_a_camera_in_a_hand_that_zooms_keeps_all_tracks():
    tracker = Tracker()
    moves = [(1.0, 0), (1.1, 130), (1.2, -20), (1.05, 110), (0.95, -30), (1.1, 120)]
    rows = [_tracks(tracker, i, _moved(ROW, *move)) for i, move in enumerate(moves)]
    assert rows == [[1, 2, 3]] * len(moves)


def test_a_face_that_was_missed_while_the_camera_moved_is_found_again():
    places = [(200, 200, 110), (560, 260, 120), (900, 190, 100), (420, 540, 115)]
    tracker = Tracker()
    assert _tracks(tracker, 0, places) == [1, 2, 3, 4]
    assert _tracks(tracker, 1, _moved(places[:3], 1.0, 140)) == [1, 2, 3]
    assert _tracks(tracker, 2, _moved(places, 1.0, 280)) == [1, 2, 3, 4]


def test_after_a_cut_the_faces_in_a_row_are_other_faces():
    tracker = Tracker()
    _tracks(tracker, 0, ROW)
    tracker.reset()
    assert _tracks(tracker, 1, _moved(ROW, 1.0, 140)) == [4, 5, 6]


def test_a_pan_over_an_even_row_does_not_move_tracks_to_the_next_face():
    tracker = Tracker()
    numbers = {}
    for i in range(16):
        turned = 90 * max(0, i - 4)
        seen = [(k, (150 + 230 * k - turned, 330, 120)) for k in range(8)]
        seen = [(k, place) for k, place in seen if 0 < place[0] < 1280]
        tracks = _tracks(tracker, i, [place for _, place in seen])
        for (k, _), track in zip(seen, tracks, strict=True):
            assert numbers.setdefault(k, track) == track
    assert len(set(numbers.values())) == len(numbers) == 8
