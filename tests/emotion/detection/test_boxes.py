from math import ceil

import numpy as np
import pytest
import torch

from emotion.detection import boxes


@pytest.mark.parametrize(("height", "width"), [(360, 640), (333, 401), (1, 1)])
def test_anchors_cover_every_cell_of_every_level(height, width):
    cells = sum(ceil(height / s) * ceil(width / s) for s in (8, 16, 32))
    assert boxes.anchors(height, width).shape == (2 * cells, 4)


def test_anchors_go_along_the_row_with_the_small_size_first():
    first = boxes.anchors(360, 640)[:3]
    assert first.tolist() == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]


def test_zero_offsets_decode_to_the_anchors_themselves():
    at = torch.tensor([[100.0, 50.0, 32.0, 32.0]])
    assert boxes.decode_boxes(torch.zeros(1, 4), at).tolist() == [[84, 34, 116, 66]]
    assert boxes.decode_landmarks(torch.zeros(1, 10), at).tolist() == [[[100, 50]] * 5]


def test_decode_inverts_the_encoding_of_the_paper():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 300, (50, 2))
    high = low + rng.uniform(5, 200, (50, 2))
    at = rng.uniform(20, 200, (50, 4))
    centre, size = (low + high) / 2, high - low
    offsets = np.concatenate(
        ((centre - at[:, :2]) / (0.1 * at[:, 2:]), np.log(size / at[:, 2:]) / 0.2), axis=1
    )
    decoded = boxes.decode_boxes(torch.from_numpy(offsets), torch.from_numpy(at))
    np.testing.assert_allclose(decoded, np.concatenate((low, high), axis=1), atol=1e-9)


def test_iou_of_a_half_overlap():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    b = torch.tensor([[5.0, 0.0, 15.0, 10.0], [10.0, 0.0, 20.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    torch.testing.assert_close(boxes.iou(a, b), torch.tensor([[1 / 3, 0.0, 1.0]]))


def test_iou_of_a_box_without_area_is_zero():
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert boxes.iou(point, point).tolist() == [[0.0]]


def _one_after_the_other(box, score, max_iou):
    kept = []
    for i in sorted(range(len(box)), key=lambda i: -score[i]):
        for j in kept:
            low, high = np.maximum(box[i, :2], box[j, :2]), np.minimum(box[i, 2:], box[j, 2:])
            shared = np.prod(np.maximum(high - low, 0))
            areas = np.prod(box[i, 2:] - box[i, :2]) + np.prod(box[j, 2:] - box[j, :2])
            if shared / (areas - shared) > max_iou:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_suppression_agrees_with_one_box_after_the_other(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (120, 2))
    box = np.concatenate((low, low + rng.uniform(10, 60, (120, 2))), axis=1)
    score = rng.integers(0, 40, 120) / 40  # with ties
    kept = boxes.suppress(torch.from_numpy(box), torch.from_numpy(score), max_iou=0.4)
    reference = _one_after_the_other(box, score, 0.4)
    assert kept.tolist() == reference
    assert 3 < len(reference) < 120


def test_a_box_that_a_fallen_box_overlaps_stays():
    chain = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    kept = boxes.suppress(chain, torch.tensor([0.9, 0.8, 0.7]), max_iou=0.4)
    assert kept.tolist() == [0, 2]


def test_no_boxes_keep_none():
    assert boxes.suppress(torch.zeros(0, 4), torch.zeros(0), max_iou=0.4).tolist() == []


def test_boxes_of_one_picture_say_nothing_of_another_picture():
    box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    corners = torch.cat((box, box + 1, box, box + 100, box + 2))
    scores = torch.tensor([0.8, 0.9, 0.7, 0.6, 0.95])
    frame = torch.tensor([0, 0, 2, 2, 0])
    kept = boxes.suppress(corners, scores, max_iou=0.4, frame=frame)
    assert kept.tolist() == [4, 2, 3]
    alone = [
        rows[boxes.suppress(corners[rows], scores[rows], max_iou=0.4)].tolist()
        for rows in ((frame == f).nonzero()[:, 0] for f in (0, 2))
    ]
    assert sum(alone, []) == kept.tolist()  # noqa: RUF017


def test_only_the_best_of_each_picture_are_looked_at():
    corners = torch.arange(6.0)[:, None] * 100 + torch.tensor([0.0, 0.0, 10.0, 10.0])
    scores = torch.tensor([0.1, 0.9, 0.5, 0.8, 0.2, 0.3])
    frame = torch.tensor([0, 0, 0, 1, 1, 1])
    kept = boxes.suppress(corners, scores, max_iou=0.4, frame=frame, most=2)
    assert kept.tolist() == [1, 2, 3, 5]
