import json

import numpy as np
import pytest

from emotion.linking.track import Tracker, buffered_iou
from emotion.types import StateError


def _boxes(*corners, side=100.0):
    low = np.array(corners, dtype=np.float32).reshape(-1, 2)
    return np.concatenate((low, low + np.float32(side)), axis=1)


def _see(tracker, ts_s, *corners):
    return tracker.update(round(ts_s * 1e6), _boxes(*corners)).tolist()


def test_faces_start_tracks_counted_from_one():
    assert _see(Tracker(), 0.0, (0, 0), (300, 0)) == [1, 2]


def test_numbers_that_are_taken_are_left_out_and_never_taken_back():
    tracker = Tracker()
    tracker.number_from(7)
    tracker.number_from(3)
    assert _see(tracker, 0.0, (0, 0), (300, 0)) == [7, 8]


def test_a_face_that_stays_keeps_its_track():
    tracker = Tracker()
    assert [_see(tracker, i / 5, (i, 2 * i)) for i in range(10)] == [[1]] * 10


def test_the_order_of_the_faces_does_not_matter():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0), (300, 0))
    assert _see(tracker, 0.2, (302, 0), (2, 0)) == [2, 1]


def test_boxes_that_no_longer_touch_are_still_the_same_face():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert _see(tracker, 0.2, (110, 0)) == [1]


@pytest.mark.parametrize("widths_a_look", [1, 2, 3])
def test_who_runs_past_others_keeps_the_track(widths_a_look):
    tracker = Tracker()
    rows = [
        _see(tracker, i / 5, (300, 500), (700, 500), (100 * widths_a_look * i, 320))
        for i in range(6)
    ]
    assert rows == [[1, 2, 3]] * 6


def test_a_newcomer_does_not_take_over_the_track_of_one_who_was_followed():
    tracker = Tracker()
    for i in range(5):
        assert _see(tracker, i / 5, (5 * i, 0)) == [1]
    assert _see(tracker, 1.0, (250, 0)) == [2]


def test_who_may_have_run_from_two_places_is_a_new_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0), (500, 0))
    assert _see(tracker, 0.2, (250, 0)) == [3]


def test_a_face_somewhere_else_is_a_new_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert _see(tracker, 0.2, (400, 0)) == [2]


def test_a_face_of_another_size_is_a_new_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert tracker.update(200_000, _boxes((40, 40), side=20)).tolist() == [2]


def test_a_moving_face_is_found_where_it_went_while_unseen():
    tracker = Tracker()
    for i in range(5):
        assert _see(tracker, i / 5, (80 * i, 0)) == [1]
    assert _see(tracker, 1.6, (80 * 8, 0)) == [1]  # 320 pixels on, 0.8 s later


def test_two_faces_that_pass_each_other_keep_their_tracks():
    tracker = Tracker()
    rows = [_see(tracker, i / 5, (60 * i, 0), (600 - 60 * i, 30)) for i in range(11)]
    assert rows == [[1, 2]] * 11


def test_a_short_absence_keeps_the_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    _see(tracker, 0.4)
    assert _see(tracker, 2.0, (0, 0)) == [1]


def test_a_longer_absence_ends_the_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    _see(tracker, 0.6)
    assert _see(tracker, 2.2, (0, 0)) == [2]


def test_a_reset_ends_all_tracks_and_numbers_go_on():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0), (300, 0))
    tracker.reset()
    assert _see(tracker, 0.2, (0, 0), (300, 0)) == [3, 4]


def test_a_frame_from_the_past_ends_all_tracks():
    tracker = Tracker()
    _see(tracker, 5.0, (0, 0))
    assert _see(tracker, 4.0, (0, 0)) == [2]
    assert _see(tracker, 4.0, (0, 0)) == [3]


def test_two_faces_never_share_a_track():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert sorted(_see(tracker, 0.2, (3, 0), (-3, 0))) == [1, 2]


def test_the_assignment_is_best_for_all_faces_together():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0), (90, 0))
    # the left track is nearest to the box that is the right track's only one
    assert _see(tracker, 0.2, (40, 0), (-110, 0)) == [2, 1]


def test_numbers_are_the_tracks_that_may_go_on():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    _see(tracker, 0.8, (400, 0))
    assert tracker.numbers == {1, 2}
    _see(tracker, 2.2)
    assert tracker.numbers == {2}


def test_continues_exactly_from_its_state():
    rng = np.random.default_rng(0)
    frames = [_boxes(*rng.uniform(0, 500, (rng.integers(0, 5), 2))) for _ in range(40)]
    straight, broken = Tracker(), Tracker()
    for i, boxes in enumerate(frames):
        broken = Tracker.from_state(json.loads(json.dumps(broken.state, allow_nan=False)))
        ts_us = i * 200_000
        assert broken.update(ts_us, boxes).tolist() == straight.update(ts_us, boxes).tolist()
    assert broken.state == straight.state


@pytest.mark.parametrize("state", [{}, {"next": 1, "tracks": [{"number": 1}]}, {"next": "x"}])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(StateError):
        Tracker.from_state(state)


def test_buffered_overlap_of_the_same_box_is_one_and_of_far_ones_zero():
    boxes = np.array([[0.0, 0, 10, 10], [100, 0, 110, 10]])
    np.testing.assert_allclose(buffered_iou(boxes, boxes, np.full(2, 0.5)), np.eye(2))


def test_the_buffer_is_of_each_boxs_own_size():
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[20.0, 0, 30, 10]])
    overlap = [buffered_iou(a, b, np.array([margin])).item() for margin in (0.5, 1.0)]
    np.testing.assert_allclose(overlap, [0, 1 / 5])


def test_of_two_matching_faces_the_one_of_the_same_size_continues():
    tracker = Tracker()
    tracker.update(0, _boxes((0, 0), side=100))
    boxes = np.concatenate((_boxes((10, 10), side=70), _boxes((25, 0), side=100)))
    assert tracker.update(200_000, boxes).tolist() == [2, 1]


def test_a_face_that_stops_where_it_was_hidden_is_found_again():
    tracker = Tracker()
    for i in range(5):
        _see(tracker, i / 5, (30 * i, 0))
    assert _see(tracker, 1.8, (125, 0)) == [1]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([(0, 0), (300, 0)], True),
        ([(0, 0), (900, 900)], True),
        ([(900, 900), (600, 600)], False),
        ([(15, 0), (300, 0)], True),
        ([(15, 0), (315, 0)], False),
        ([], False),
    ],
    ids=["both", "half", "none", "one a little off", "both a little off", "no face"],
)
def test_faces_stay_where_half_of_them_are_where_they_were(seen, expected):
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0), (300, 0))
    assert tracker.faces_stay(200_000, _boxes(*seen)) is expected
    assert _see(tracker, 0.2, (0, 0), (300, 0)) == [1, 2]  # it only looked


def test_faces_stay_where_they_were_on_their_way_to():
    tracker = Tracker()
    for i in range(10):
        _see(tracker, i / 5, (60 * i, 0))
    assert tracker.faces_stay(2_000_000, _boxes((600, 0)))
    assert not tracker.faces_stay(2_000_000, _boxes((540, 0)))


def test_only_the_faces_of_the_frame_before_can_stay():
    tracker = Tracker()
    assert not tracker.faces_stay(0, _boxes((0, 0)))
    _see(tracker, 0.0, (0, 0), (300, 0))
    _see(tracker, 0.2, (300, 0))
    assert tracker.faces_stay(400_000, _boxes((300, 0)))
    assert not tracker.faces_stay(400_000, _boxes((0, 0)))
    assert not tracker.faces_stay(200_000, _boxes((300, 0)))


def test_an_absence_of_two_seconds_keeps_a_track_and_a_microsecond_more_ends_it():
    for absent_us, number in ((2_000_000, 1), (2_000_001, 2)):
        tracker = Tracker()
        tracker.update(0, _boxes((0, 0)))
        assert tracker.update(absent_us, _boxes((0, 0))).tolist() == [number]


def test_the_state_says_where_a_face_was_and_how_it_moved():
    tracker = Tracker()
    for i in range(30):
        _see(tracker, i / 5, (20 * i, 10 * i))
    [track] = tracker.state["tracks"]
    assert (tracker.state["next"], track["number"], track["seen_us"]) == (2, 1, 5_800_000)
    assert track["box"] == [580.0, 290.0, 680.0, 390.0]
    np.testing.assert_allclose(track["velocity"], [100.0, 50.0], rtol=1e-6)


def _followed(*, at=(0, 0)):
    """A face that was seen twice, and hardly moved: it is searched around where it goes alone."""
    tracker = Tracker()
    _see(tracker, 0.0, at)
    _see(tracker, 0.2, (at[0] + 1, at[1]))
    return tracker


@pytest.mark.parametrize(
    ("after_s", "within_px", "beyond_px"),
    [(0.2, 160, 168), (0.6, 222, 236), (1.9, 405, 425)],
    ids=["soon", "later", "as far as it gets"],
)
def test_the_longer_a_face_is_away_the_farther_off_it_may_be_up_to_a_bound(
    after_s, within_px, beyond_px
):
    """A tenth of the enlarged boxes has to overlap: of a width's 1.3 to 4 more on each side."""
    for away_px, number in ((within_px, 1), (beyond_px, 2)):
        assert _see(_followed(), 0.2 + after_s, (1 + away_px, 0)) == [number]


@pytest.mark.parametrize(
    ("corner", "side", "number"),
    [
        ((330, 0), 100.0, 1),
        ((331, 0), 100.0, 2),
        ((-330, 0), 100.0, 1),
        ((300, 60), 100.0, 1),
        ((300, 61), 100.0, 2),
        ((300, -61), 100.0, 2),
        ((286, -14), 128.0, 1),
        ((285.5, -14.5), 129.0, 2),
        ((310, 10), 79.0, 1),
        ((311, 11), 77.0, 2),
    ],
    ids=str,
)
def test_who_was_seen_once_may_run_three_widths_to_the_side(corner, side, number):
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert tracker.update(200_000, _boxes(corner, side=side)).tolist() == [number]


def test_who_runs_is_believed_for_three_tenths_of_a_second():
    for after_us, number in ((300_000, 1), (300_001, 2)):
        tracker = Tracker()
        tracker.update(5_000_000, _boxes((0, 0)))
        assert tracker.update(5_000_000 + after_us, _boxes((330, 0))).tolist() == [number]


def test_where_two_may_be_who_ran_both_are_new():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    assert _see(tracker, 0.2, (280, 0), (-280, 0)) == [2, 3]


def test_who_ran_is_expected_to_run_on_at_that_speed():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    _see(tracker, 0.2, (300, 0))
    [track] = tracker.state["tracks"]
    np.testing.assert_allclose(track["velocity"], [1500.0, 0.0])


def test_a_first_move_is_half_believed_in_two_tenths_of_a_second():
    tracker = Tracker()
    _see(tracker, 0.0, (0, 0))
    _see(tracker, 0.2, (10, -20))
    [track] = tracker.state["tracks"]
    np.testing.assert_allclose(track["velocity"], [24.33, -48.66], atol=0.01)


def test_a_smaller_face_goes_on_where_the_other_overlaps_much_less():
    """exp(-2 |log 0.8|) is 0.64: 0.41 of fit is left to it, and the other has 0.43, then 0.38."""
    for away_px, numbers in ((80, [2, 1]), (90, [1, 2])):
        boxes = np.concatenate((_boxes((11, 10), side=80), _boxes((1 + away_px, 0), side=100)))
        assert _followed().update(400_000, boxes).tolist() == numbers
