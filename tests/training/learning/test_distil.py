from pathlib import Path

import numpy as np
import torch

from emotion.networks.expression import Tower
from training.learning.distil import AGAIN, FIRST, mixed_targets, opinion
from training.learning.net import targets
from training.learning.train import Recipe, TrainingRun
from training.pictures import data

SMALL = Recipe(minutes=1, epochs=1, batch=32, widths=(8, 16), depths=(1, 1), stem=8)


def tower(seed: int) -> Tower:
    torch.manual_seed(seed)
    return Tower(widths=SMALL.widths, depths=SMALL.depths, stem=SMALL.stem).eval()


def test_teachers_say_the_same_of_a_face_and_its_mirror_image(data_dir: Path) -> None:
    faces = data.load(data_dir, data.VALIDATION).images
    teachers = [tower(1), tower(2)]
    said = opinion(teachers, faces)
    mirrored = opinion(teachers, np.ascontiguousarray(faces[:, :, ::-1]))
    for one, other, n in zip(said, mirrored, (8, 7), strict=True):
        assert one.shape == (len(faces), n)
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one.sum(1), torch.ones(len(faces)))
    assert not torch.allclose(said[0], opinion(teachers[:1], faces)[0])


def test_a_target_is_label_and_opinion_and_nothing_where_there_is_no_label() -> None:
    votes, keyword = torch.eye(8)[:2], torch.eye(7)[:2]
    keyword[1] = 0
    even = torch.full((2, 8), 1 / 8), torch.full((2, 7), 1 / 7)
    voted, searched = mixed_targets((votes, keyword), even, FIRST)
    torch.testing.assert_close(voted.sum(1), torch.ones(2))
    torch.testing.assert_close(voted[0, 0], torch.tensor(1 - FIRST.voted_share * 7 / 8))
    torch.testing.assert_close(searched[0, 1], torch.tensor(FIRST.keyword_share / 7))
    assert not searched[1].any()


def test_a_student_starts_where_its_teacher_is(data_dir: Path, tmp_path: Path) -> None:
    run, teacher = TrainingRun(SMALL, tmp_path), tower(3)
    run.start_from(teacher)
    for net in (run.net, run.average.net):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(value, teacher.state_dict()[name], msg=name)
    faces = data.load(data_dir, data.TRAIN)
    labels = targets(faces)
    wanted = mixed_targets(labels, opinion([teacher], faces.images), AGAIN)
    run.train(faces, data.load(data_dir, data.VALIDATION), wanted)
    assert not torch.equal(run.net.voted.weight, teacher.voted.weight)
    assert len(run.history) == 1
