from pathlib import Path

import numpy as np
import pytest

from emotion.types import EMOTIONS
from training.pictures import data


def test_splits_are_apart_and_labels_are_in_the_order_of_emotions(data_dir: Path) -> None:
    parts = [data.load(data_dir, split) for split in (data.TRAIN, data.VALIDATION, data.TEST)]
    assert [len(part) for part in parts] == [96, 48, 48]
    for part in parts:
        known = part.keyword >= 0
        np.testing.assert_array_equal(part.keyword[known], part.majority[known])
        assert set(part.majority) == set(range(len(EMOTIONS)))
        assert not (part.keyword == EMOTIONS.index("contempt")).any()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"ferplus\.npz"):
        data.load(tmp_path, data.TRAIN)


def test_a_vote_that_one_person_gave_alone_does_not_count() -> None:
    votes = np.array([[7, 2, 1, 0, 0, 0, 0, 0, 0, 0]], np.uint8)
    np.testing.assert_allclose(data.vote_shares(votes)[0, :3], [7 / 9, 2 / 9, 0])


def test_single_votes_count_where_there_is_nothing_else() -> None:
    votes = np.array([[1, 0, 0, 1, 0, 0, 0, 0, 8, 0]], np.uint8)
    np.testing.assert_allclose(data.vote_shares(votes)[0, [0, 3]], [0.5, 0.5])


def test_no_emotion_votes_give_zeros() -> None:
    votes = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 10]], np.uint8)
    assert data.vote_shares(votes).sum() == 0


def rare_and_common() -> data.Pictures:
    label = np.repeat([0, 5], [95, 5]).astype(np.int64)
    return data.Pictures(
        images=np.zeros((100, 48, 48), np.uint8),
        votes=np.eye(8, dtype=np.float32)[label],
        majority=label,
        official=label,
        keyword=np.full(100, -1),
    )


@pytest.mark.parametrize(("power", "times"), [(0.0, 1.0), (0.5, 19**0.5), (1.0, 19.0)])
def test_rare_classes_are_drawn_more_often(power: float, times: float) -> None:
    weights = data.sampling_weights(rare_and_common(), power=power, keyword_share=0.4)
    assert weights.mean() == pytest.approx(1)
    assert weights[-1] / weights[0] == pytest.approx(times)


def test_an_epoch_draws_each_face_as_often_as_its_weight_says() -> None:
    weights = np.array([0.5, 0.5, 1.0, 2.0])
    drawn = np.bincount(data.draw_epoch(weights, seed=1, epoch=0), minlength=4)
    assert drawn.sum() == 4
    assert (drawn >= np.floor(weights)).all()
    assert (drawn <= np.ceil(weights)).all()


def test_an_epoch_can_be_drawn_again() -> None:
    weights = np.linspace(0.5, 1.5, 50)
    first, again, other = (data.draw_epoch(weights, seed=1, epoch=e) for e in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([5, 1, 1, 1, 1, 1, 0, 0, 0, 0], 0),  # single votes are dropped: 5 of 5
        ([4, 4, 0, 0, 0, 0, 0, 0, 2, 0], -1),  # nobody has more than half
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], -1),
        ([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], -1),  # unknown
        ([0, 2, 0, 0, 0, 0, 0, 0, 0, 8], -1),  # not a face
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1),
    ],
)
def test_what_the_authors_of_ferplus_test_by(votes: list[int], label: int) -> None:
    assert data.official_labels(np.array([votes], np.uint8)).tolist() == [label]
